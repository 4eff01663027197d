"""Pure functions of tensors; no state."""
