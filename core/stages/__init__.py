"""Stages: the consecutive parts of a run. One per file, found by its name."""
