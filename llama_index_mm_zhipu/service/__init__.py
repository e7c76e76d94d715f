"""One service over an index, which the command, the MCP server and other ways in show: search, ask, look, add, status.

Its results are plain data that JSON can hold. Importing this package is cheap; ``service.image_service`` loads
llama-index-core.
"""
