"""The MCP servers that a workspace's ``.mcp.json`` names, and the client of them.

``servers`` (start here) has them run; ``file`` is what the file says, ``session`` the protocol over a ``stdio`` or an
``http`` transport, ``content`` what is kept of what servers say. All of it is within the sandbox, by a server's side:
what a server sends can cost this workspace alone.
"""
