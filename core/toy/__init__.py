"""Weightings on a landscape of two objectives."""
