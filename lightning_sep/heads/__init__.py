"""How raw values become a waveform, a distribution or an embedding; a file per head."""
