"""Who works on what: signs of life, locks, and claims that fence off whoever lost them."""
