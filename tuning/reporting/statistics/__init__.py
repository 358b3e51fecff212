"""Statistics of recorded results: differences, tests, ranks, uncertainty, the origin of numbers."""
