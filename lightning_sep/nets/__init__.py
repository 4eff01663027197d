"""Tensors in, raw tensors out; no loss, no activation at the end."""
