"""Qdrant behind an index."""
