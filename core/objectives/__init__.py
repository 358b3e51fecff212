"""Objectives: the losses that training minimizes. One per file, found by its name."""
