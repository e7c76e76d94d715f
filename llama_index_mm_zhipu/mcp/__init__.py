"""An MCP server over the service: agents search the images of an index, and see them. Needs the extra ``mcp``."""
