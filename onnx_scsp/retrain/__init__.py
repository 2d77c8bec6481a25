"""Through PyTorch and back: the only layer that imports torch. Importing this package does not."""
