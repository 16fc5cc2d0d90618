"""The model, and what it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.parts import Message, Part, Usage


class ModelRequest(msgspec.Struct, frozen=True):
    chat_id: UUID
    messages: tuple[Message, ...]
    model: str | None = None
    """None: the deployment's default."""


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer, in order: text, reasoning, or a whole tool call."""

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
