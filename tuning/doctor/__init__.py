"""Checks of the nodes before a study."""
