"""Where workers run; a file per launcher."""
