"""Commands that read results: comparisons of methods, and the origin of numbers."""
