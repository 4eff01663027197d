"""One number per example; a file per loss."""
