"""Strategies: how per-task gradients are computed and combined. One per file."""
