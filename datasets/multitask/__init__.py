"""Benchmarks with several tasks, one per file, judged by delta-m."""
