"""Records into ranked tables and a page."""
