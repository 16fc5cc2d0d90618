"""Calls of tools as items of a response and their events. Pure.

A call that a person has to approve is asked for with an item of its own, ``mcp_approval_request``, which ends the
response; what becomes of the call is told in the next one.

A call is told once it is history: before that an interrupt may still drop it, and then nobody has to take anything
back. Those of tools that the client runs are ``function_call`` items; those that the cluster runs are ``mcp_call``
items, which are done when their result is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatcluster.parts import ToolCallPart, ToolResultPart
from chatcluster.tool_offer import SEPARATOR
from chatcluster.web.doors.chunks import arguments_of, pieces
from chatcluster.web.doors.openai.spoken import Event

OWN_LABEL = "chatcluster"
"""The label of tools that are of no server."""


class Called:
    """One call. Each method yields events without their numbers."""

    def __init__(
        self, part: ToolCallPart, response_id: str, index: int, *, is_clients: bool, request_id: str | None = None
    ) -> None:
        """``request_id`` names the request that asked a person about it."""
        self._request_id = request_id
        self.index = index
        self.is_clients = is_clients
        self.part = part
        prefix = "fc" if is_clients else "mcp"
        self.id = f"{prefix}_{response_id.partition('_')[2]}_{index}"
        self._result: ToolResultPart | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing more comes of it in this response."""
        return self.is_clients or self._result is not None

    def open(self) -> Iterator[Event]:
        """Tell all that is to be told when the call is made."""
        kind = "response.function_call_arguments" if self.is_clients else "response.mcp_call_arguments"
        place = {"item_id": self.id, "output_index": self.index}
        item = self._item("in_progress", arguments="")
        yield {"type": "response.output_item.added", "output_index": self.index, "item": item}
        if not self.is_clients:
            yield {"type": "response.mcp_call.in_progress", **place}
        for piece in pieces(arguments_of(self.part)):
            yield {"type": f"{kind}.delta", **place, "delta": piece}
        yield {"type": f"{kind}.done", **place, "name": self.part.name, "arguments": arguments_of(self.part)}
        if self.is_clients:
            yield self._done("completed")

    def answered(self, result: ToolResultPart) -> Iterator[Event]:
        self._result = result
        outcome = "failed" if result.is_error else "completed"
        yield {"type": f"response.mcp_call.{outcome}", "item_id": self.id, "output_index": self.index}
        yield self._done(outcome)

    def abandon(self) -> Iterator[Event]:
        """The response ends without a result of it."""
        yield self._done("incomplete")

    def item(self) -> dict[str, Any]:
        failed = self._result is not None and self._result.is_error
        return self._item("failed" if failed else "completed" if self.is_done else "incomplete")

    def _done(self, status: str) -> Event:
        return {"type": "response.output_item.done", "output_index": self.index, "item": self._item(status)}

    def _item(self, status: str, arguments: str | None = None) -> dict[str, Any]:
        said = arguments_of(self.part) if arguments is None else arguments
        if self.is_clients:
            call = {"type": "function_call", "call_id": self.part.id, "name": self.part.name, "arguments": said}
            return {"id": self.id, **call, "status": status}
        output = None if self._result is None or self._result.is_error else self._result.text
        error = _error(self._result.text) if self._result is not None and self._result.is_error else None
        call = {"type": "mcp_call", **_named(self.part), "arguments": said}
        asked = {"approval_request_id": self._request_id}
        return {"id": self.id, **call, "output": output, "error": error, "status": status, **asked}


def _named(part: ToolCallPart) -> dict[str, str]:
    """A tool of a server has the server's slug before its name, which may have the same separator in it."""
    label, separator, name = part.name.partition(SEPARATOR)
    return {"server_label": label, "name": name} if separator else {"server_label": OWN_LABEL, "name": part.name}


def _error(text: str) -> dict[str, Any]:
    return {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": text}]}


class Requested:
    """The request to approve a call. It names the arguments that the model gave."""

    is_done = True

    def __init__(self, part: ToolCallPart, index: int, request_id: str) -> None:
        self._part = part
        self._index = index
        self._id = request_id

    def tell(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.item()}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.item()}

    def item(self) -> dict[str, Any]:
        call = {**_named(self._part), "arguments": arguments_of(self._part)}
        return {"id": self._id, "type": "mcp_approval_request", **call}
