"""Schedulers: which trials stop early, pause or continue, by their ranks at a few epochs."""
