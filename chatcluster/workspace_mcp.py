"""What is said to the agent of a workspace of the MCP servers that its ``.mcp.json`` names, and what it answers.

The agent is their client: it begins them in the sandbox, or reaches them from there, so they can do what a command can
do and no more. A call of one of their tools is a call in its ledger. ``GET /mcp`` reads the file anew, sees to it that
the servers run that it names and no others, and waits for those that are just starting.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

SERVERS_MAX = 16
TOOLS_MAX = 200
"""The most tools of one server."""
LIST_BYTES_MAX = 128 << 10
"""Names, descriptions and schemas of one server."""
PIECES_MAX = 1000
RESULT_BYTES_MAX = 4 << 20
"""The most of the texts and the pictures of one result."""


class McpCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Call a tool of a server that the workspace's ``.mcp.json`` names. The result is an ``McpResult``."""

    server: str
    tool: str
    arguments: dict[str, Any] = {}


class McpState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


class McpTool(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    schema: str
    """JSON, of its arguments: an object."""


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """A server that the workspace's ``.mcp.json`` names. ``error`` says why it ``failed``."""

    name: str
    state: McpState
    error: str = ""
    instructions: str = ""
    tools: tuple[McpTool, ...] = ()
    left_out: int = 0
    """Tools that cannot be taken: too large, too many, or no name that could be one."""


class McpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """``error``: what is wrong with the file as a whole, if there is one."""

    servers: tuple[McpServer, ...] = ()
    error: str = ""


class McpContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a result: ``text``; or an image, its ``data`` in base64; or a resource, at its ``uri``."""

    text: str | None = None
    data: str = ""
    mime_type: str = ""
    uri: str = ""
    name: str = ""


class McpResult(msgspec.Struct, frozen=True, kw_only=True):
    content: tuple[McpContent, ...]
    is_error: bool = False
