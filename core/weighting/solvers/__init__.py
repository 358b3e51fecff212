"""Solvers for the weights of Gram matrices."""
