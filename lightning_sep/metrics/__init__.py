"""What boards report, as torchmetrics objects."""
