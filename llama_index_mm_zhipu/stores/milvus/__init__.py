"""Milvus behind an index."""
