"""Data decoded or tokenized once into memory-mapped arrays."""
