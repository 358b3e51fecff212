"""Augmentations of training batches, on the device. One per file, found by its name."""
