"""records -> tables and JSON. Computes nothing that the library did not."""
