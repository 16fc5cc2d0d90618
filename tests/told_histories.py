"""Histories as tests tell them to a model's server, and what its vendor's own types take."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import TypeAdapter

from chatcluster.parts import Message, Part, Role, TextPart

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
Told = tuple[Role, tuple[Part, ...]]


def history(*messages: Told, reason: str | None = None) -> tuple[Message, ...]:
    """``reason``: why the last one ended."""
    told = [Message(index, role, parts, 1, BEGAN) for index, (role, parts) in enumerate(messages, 1)]
    if reason is not None:
        told[-1] = msgspec.structs.replace(told[-1], finish_reason=reason)
    return tuple(told)


def user(text: str) -> Told:
    return Role.USER, (TextPart(text),)


def assistant(*parts: Part) -> Told:
    return Role.ASSISTANT, parts


def tool(*parts: Part) -> Told:
    return Role.TOOL, parts


def require_taken(vendors_type: TypeAdapter[Any], body: Any) -> None:
    """Raises where the vendor's type does not take the body."""
    _walk(vendors_type.validate_python(body))


def _walk(value: Any) -> None:
    """Iterables are checked when they are walked."""
    if isinstance(value, dict):
        for inner in value.values():
            _walk(inner)
    elif not isinstance(value, str | bytes) and isinstance(value, Iterable):
        for inner in value:
            _walk(inner)
