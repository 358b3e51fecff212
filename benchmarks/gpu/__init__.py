"""Correctness and speed of the training core on a GPU: python -m benchmarks.gpu."""
