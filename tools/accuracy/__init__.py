"""The accuracy bench: see tools/bench_accuracy.py."""
