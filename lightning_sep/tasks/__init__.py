"""A net and a head, trained on weighted examples; a file per task."""
