"""The command line: one file per verb; each calls the library and prints what it returns."""
