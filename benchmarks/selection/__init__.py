"""Recorded training curves of random configurations, and search strategies replayed on them."""
