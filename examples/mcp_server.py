"""A server of tools in thirty lines: a to-do list that a chat can read and change.

python examples/mcp_server.py 9000
chatcluster mcp add todo http://127.0.0.1:9000/mcp --trusted
chatcluster mcp test todo
"""

from __future__ import annotations

import sys

import uvicorn
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

server = MCPServer("todo", instructions="The user's to-do list. Look at it before you add something.")
items: list[str] = []


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def show() -> list[str]:
    """What is on the list."""
    return items


@server.tool()
def add(text: str) -> str:
    """Put something on the list."""
    items.append(text)
    return f"There are {len(items)} things to do now."


if __name__ == "__main__":
    uvicorn.run(server.streamable_http_app(), port=int(sys.argv[1]), log_level="warning")
