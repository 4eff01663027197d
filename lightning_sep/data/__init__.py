"""Corpora, their manifests, and how examples are drawn from them."""
