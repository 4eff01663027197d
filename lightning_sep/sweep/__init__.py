"""A question, its trials, and the workers that answer it."""
