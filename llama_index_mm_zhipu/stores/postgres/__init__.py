"""Postgres behind an index."""
