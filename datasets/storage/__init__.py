"""Data decoded or tokenised once into memory-mapped arrays."""
