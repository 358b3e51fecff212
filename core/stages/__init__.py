"""Stages: what happens in turn. One per file, found by its name."""
