"""Which trace a piece of work belongs to, in the form of W3C's Trace Context: the header ``traceparent``.

In: a request that carries one is told as a span of its caller's trace (``joined``). A turn is a trace of its own, since
it may wait, go on elsewhere, and outlast the request; so the two are linked, as work that waits in queues is: the
request's span names the turns that it began (``asked``), and each of those traces has a span that names the request.
What is no ``traceparent``, or says that the caller's trace is not kept, is as none. Out: what is asked of a server
within ``working`` carries the span that this is going to be.

Without an endpoint for spans there is nobody who ``tells`` of any, and nothing is read or sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple
from uuid import UUID

from chatcluster import telemetry

TRACEPARENT = "traceparent"
TURNS_MAX = 8
"""So many turns one request's span names."""
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
SAMPLED = 1


class Context(NamedTuple):
    """A span, from elsewhere or one to come. ``sampled``: its trace is kept."""

    trace_id: bytes
    span_id: bytes
    sampled: bool = True

    def __str__(self) -> str:
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{self.sampled:02x}"


ContextOf = Callable[[str, dict[str, object]], Context]
"""Makes the context from the name and the fields of an event which is going to be told."""


def read_traceparent(value: bytes) -> Context | None:
    """None: it has not the form, or is of a version that cannot be. Of later versions counts what this one has."""
    found = _FORM.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"ff" or (version == b"00" and rest is not None) or not int(trace_id, 16) or not int(span_id, 16):
        return None
    is_sampled = bool(int(flags, 16) & SAMPLED)
    return Context(bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode()), is_sampled)


class Joined:
    """A request within its caller's trace."""

    def __init__(self, caller: Context) -> None:
        self.caller = caller
        self.own = Context(caller.trace_id, os.urandom(8))
        self.turns: list[tuple[str, int | None]] = []
        """Chats, and the messages there that are to be answered; None of one that waits in the queue."""

    def __repr__(self) -> str:
        return f"<Joined {self.caller} {len(self.turns)} turns>"

    @property
    def told(self) -> dict[str, object]:
        """What the report of the request has besides."""
        return {TRACEPARENT: str(self.caller), "span_id": self.own.span_id.hex(), "turns": self.turns}


_context_of: ContextOf | None = None
_request: ContextVar[Joined | None] = ContextVar("request", default=None)
_work: ContextVar[Context | None] = ContextVar("work", default=None)


@contextmanager
def telling(context_of: ContextOf) -> Iterator[None]:
    """Spans of this process are told within the block."""
    global _context_of
    _context_of = context_of
    try:
        yield
    finally:
        _context_of = None


@contextmanager
def joined(traceparents: list[bytes]) -> Iterator[Joined | None]:
    """A request with these headers is served within the block. None: it belongs to no trace that is kept."""
    caller = read_traceparent(traceparents[0].strip()) if _context_of is not None and len(traceparents) == 1 else None
    request = Joined(caller) if caller is not None and caller.sampled else None
    token = _request.set(request)
    try:
        yield request
    finally:
        _request.reset(token)


def asked(chat_id: UUID, message_id: int | None) -> None:
    """The request that is served here, if any, has a message answered; None: some time, as it waits in a queue."""
    request = _request.get()
    if request is None or len(request.turns) >= TURNS_MAX:
        return
    request.turns.append((str(chat_id), message_id))
    if message_id is not None:
        telemetry.event("chat.asked", chat_id=str(chat_id), message_id=message_id, traceparent=str(request.own))


@contextmanager
def working(name: str, fields: dict[str, object]) -> Iterator[None]:
    """What is done within the block is told at its end, by the event of this name and these fields."""
    if _context_of is None:
        yield
        return
    token = _work.set(_context_of(name, fields))
    try:
        yield
    finally:
        _work.reset(token)


def headers() -> dict[str, str]:
    """What a request carries to a server that this work asks for something."""
    work = _work.get()
    return {} if work is None else {TRACEPARENT: str(work)}
