"""The model, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

import msgspec

from chatcluster.parts import Message, Part, Usage


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool as the model is told of it. ``name`` matches ``[A-Za-z0-9_-]{1,64}``; ``parameters`` is the JSON schema of
    an object."""

    name: str
    description: str
    parameters: dict[str, Any]


class ModelRequest(msgspec.Struct, frozen=True):
    chat_id: UUID
    messages: tuple[Message, ...]
    model: str | None = None
    """None: the deployment's default."""
    tools: tuple[ToolSpec, ...] = ()
    may_call_tools: bool = True
    """False: the tools are told, so that what the provider keeps of the prompt stays good, and none may be called."""


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer, in order: text, reasoning, a tool call that begins (with what is there of its arguments),
    more of the arguments of one that began, or what only the provider understands."""

    part: Part


class KeepAlive(msgspec.Struct, frozen=True):
    """The server showed that it is alive; it resets the silence guard and nothing else."""


class Progress(KeepAlive, frozen=True):
    """A sign of life that is more: the answer grew by what is not told yet, such as a piece of a tool call."""


class Finished(msgspec.Struct, frozen=True):
    """The provider's own terminal event. ``reason``: stop, length, content_filter, tool_calls, or other where
    the provider gave a reason that is none of these and ended its answer in order."""

    reason: str
    usage: Usage | None = None
    model: str | None = None


ModelEvent = Delta | KeepAlive | Finished


class Model(Protocol):
    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """One attempt at a response. The iterator ends after ``Finished``, or raises ``ProviderError``;
        an end of the wire without a terminal event is a ``ProviderError`` (kind ``stream_incomplete``)."""
        ...
