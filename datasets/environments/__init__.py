"""Benchmarks of reinforcement learning: tasks in a simulator."""
