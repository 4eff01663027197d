"""How much each example counts; a file per rule."""
