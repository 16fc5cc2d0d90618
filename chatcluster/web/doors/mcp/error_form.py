"""Errors of a request that never became a call, as clients of the Model Context Protocol expect them: JSON-RPC. Pure.

The HTTP status says what it is, as everywhere; ``data`` has the code and what else is known."""

from __future__ import annotations

from typing import Any

from chatcluster.web.doors.mcp.wire import INTERNAL_ERROR, INVALID_REQUEST
from chatcluster.web.doors.mcp.wire import error as rpc_error

PREFIX = "/mcp"


def is_of_door(path: str) -> bool:
    return path == PREFIX or path.startswith(PREFIX + "/")


def formed(status: int, error: dict[str, Any]) -> dict[str, Any]:
    """An error of ours in the form of this door."""
    said = {name: value for name, value in error.items() if name != "message"}
    return rpc_error(INVALID_REQUEST if status < 500 else INTERNAL_ERROR, str(error["message"]), data=said)
