"""Data decoded or tokenized once into memory-mapped arrays, and their padding in batches."""
