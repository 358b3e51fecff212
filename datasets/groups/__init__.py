"""Benchmarks judged by their worst group, one per file."""
