"""Objectives: the losses that training minimises. One per file, found by its name."""
