"""An MCP server over the service: agents search the images of an index, and see them. Needs the extra ``mcp``."""

MCP_INSTALLATION = 'pip install "mcp>=2,<3" cryptography'
"""Installs what the extra ``mcp`` does, which plain pip refuses because zhipuai pins pyjwt below what mcp needs."""
