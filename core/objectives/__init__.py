"""Objectives: which losses must go down. One per file, found by its name."""
