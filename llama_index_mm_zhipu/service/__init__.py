"""One service over an index, which the command, the MCP server and other ways in show: search, ask, look, add, status.

Its results are plain data that JSON can hold. Importing this package is cheap; ``service.image_service`` loads
llama-index-core.
"""

FILTER_SYNTAX = "key=value, !=, >, >=, <, <=, key~part of a text, key in a,b, key not in a,b"
"""Metadata filters as ``ImageService`` takes them, for messages and descriptions."""
