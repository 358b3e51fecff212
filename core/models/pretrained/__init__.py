"""Pretrained models: finding and downloading weights, loading them, checking tokenizers."""
