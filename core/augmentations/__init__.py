"""Augmentations of training batches, by name. One per file; batched, on the device."""
