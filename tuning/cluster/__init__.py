"""All that drives Ray."""
