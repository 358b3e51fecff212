"""Searchers: each proposes the hyperparameters of the next trial."""
