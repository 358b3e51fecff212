"""Shared by all packages: errors, hyperparameters, progress."""
