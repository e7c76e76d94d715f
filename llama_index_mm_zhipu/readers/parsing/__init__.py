"""Streaming parsers for text files: lines, tables and JSON in any encoding."""
