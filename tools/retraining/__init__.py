"""The parts of tools/bench_retrain.py."""
