"""Files in, files out: load, read-only view, constants, shapes, patch, save, runtime session."""
