"""Spans in the names of OpenTelemetry's conventions for generative AI, from what the loops report. Pure.

================ ========================== ==================================================================
``chat.turn``    ``invoke_agent``           a turn, from its user's message to its end: the root of a trace
``chat.steered`` ``invoke_agent``           a turn that goes on as that of another message of its user
``model.asked``  ``chat MODEL``             one attempt: at an answer, at a summary, at a title
``tool.called``  ``execute_tool TOOL``      one call of a tool that a replica ran
``chat.asked``   ``receive``                a request of another trace asked for this turn: has a link to its span
``http.request`` ``METHOD ROUTE``           that request, in the trace of its caller: has links to the turns it began
================ ========================== ==================================================================

A trace is a turn. Its ID, and that of its root, are made from the chat and the message that the turn answers. So all
spans of a turn are in one trace, whichever replica they come from, and nothing has to be kept, or handed over. A
takeover is seen there: ``chatcluster.epoch`` tells the tenures of a chat apart, and their order,
``chatcluster.takeovers`` counts those of them that ended with their replica since the history moved, and
``chatcluster.resumed`` is an answer that its next owner went on with. What a replica was doing when it died has no span
of its own: nobody saw its end.

Attributes are names and numbers. What was said is never among them, nor are arguments and results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from hashlib import blake2b
from typing import NamedTuple

from chatcluster.trace_context import TRACEPARENT, Context, read_traceparent

AGENT_NAME = "chatcluster"
TEXT_CHARACTERS_MAX = 200
NS_PER_SECOND = 1_000_000_000

Value = str | int | float | tuple[str, ...]
Fields = Mapping[str, object]


class Kind(IntEnum):
    """The kind of a span, as on the wire."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    CONSUMER = 5


class Span(NamedTuple):
    """Times are nanoseconds since 1970. ``error``: the type of what it failed with; empty if it did not."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    name: str
    kind: Kind
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    error: str = ""
    links: tuple[Context, ...] = ()


class _Told(NamedTuple):
    """What is particular to a kind of span. ``named_by``: the fields that tell it from others in its trace."""

    name: str
    attributes: dict[str, object]
    seconds: object
    error: object
    kind: Kind = Kind.INTERNAL
    named_by: tuple[str, ...] = ()
    """Empty: it is the root."""
    links: tuple[Context, ...] = ()


def trace_id_of(fields: Fields) -> bytes:
    """The trace of the turn which an event belongs to."""
    return _digest(16, "trace", fields.get("chat_id"), fields.get("message_id"))


def is_told(trace_id: bytes, share: float) -> bool:
    """Whether the turn is among the ``share`` that is told: the same on every replica."""
    return int.from_bytes(trace_id[8:]) < share * 2**64


def wants(name: str, fields: Fields, share: float) -> bool:
    """Whether an event is a span that is told. Of a request its caller has decided."""
    if name == REQUEST:
        return TRACEPARENT in fields and share > 0
    return name in SPANS and is_told(trace_id_of(fields), share)


def context_of(name: str, fields: Fields, share: float = 1.0) -> Context:
    """The context of the span which an event of ``SPANS`` is going to be. The fields that name it are enough."""
    trace_id = trace_id_of(fields)
    named_by = SPANS[name](fields).named_by
    own = _digest(8, name, trace_id.hex(), *(fields.get(field) for field in named_by)) if named_by else _root(trace_id)
    return Context(trace_id, own, sampled=is_told(trace_id, share))


def span_of(name: str, fields: Fields, now_ns: int) -> Span:
    """The span that an event stands for, which ends now."""
    if name == REQUEST:
        return _span(_request(fields), *_places_of_request(fields), now_ns)
    told, own = SPANS[name](fields), context_of(name, fields)
    is_below = told.named_by and fields.get("message_id")
    return _span(told, own, _root(own.trace_id) if is_below else b"", now_ns)


def _root(trace_id: bytes) -> bytes:
    return _digest(8, "turn", trace_id.hex())


def _span(told: _Told, own: Context, parent_id: bytes, now_ns: int) -> Span:
    error = _text(told.error or "")
    seconds = told.seconds if isinstance(told.seconds, float | int) else 0
    return Span(
        trace_id=own.trace_id,
        span_id=own.span_id,
        parent_id=parent_id,
        name=_text(told.name),
        kind=told.kind,
        start_ns=max(0, now_ns - int(seconds * NS_PER_SECOND)),
        end_ns=now_ns,
        attributes=_known(told.attributes | {"error.type": error or None}),
        error=error,
        links=told.links,
    )


def _turn(fields: Fields) -> _Told:
    duration_ms = fields.get("duration_ms")
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": AGENT_NAME,
        "gen_ai.conversation.id": fields.get("chat_id"),
        "gen_ai.usage.input_tokens": fields.get("input_tokens"),
        "gen_ai.usage.output_tokens": fields.get("output_tokens"),
        "chatcluster.message.id": fields.get("message_id"),
        "chatcluster.goes_on_as.message.id": fields.get("goes_on_as"),
        "chatcluster.parent.conversation.id": fields.get("parent_id"),
        "chatcluster.outcome": fields.get("outcome"),
        "chatcluster.attempts": fields.get("attempts"),
        "chatcluster.takeovers": fields.get("takeovers"),
    }
    seconds = duration_ms / 1000 if isinstance(duration_ms, int) else None
    error = fields.get("code") or ("_OTHER" if fields.get("outcome") == "error" else None)
    return _Told(f"invoke_agent {AGENT_NAME}", attributes, seconds, error)


def _attempt(fields: Fields) -> _Told:
    model = fields.get("model")
    first_ms, reason = fields.get("first_token_ms"), fields.get("finish_reason")
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": fields.get("provider"),
        "gen_ai.conversation.id": fields.get("chat_id"),
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": fields.get("answered_model"),
        "gen_ai.response.finish_reasons": None if reason is None else (str(reason),),
        "gen_ai.response.time_to_first_chunk": first_ms / 1000 if isinstance(first_ms, int) else None,
        "gen_ai.usage.input_tokens": fields.get("input_tokens"),
        "gen_ai.usage.output_tokens": fields.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": fields.get("cached_input_tokens"),
        "gen_ai.usage.cache_creation.input_tokens": fields.get("cache_write_tokens"),
        "gen_ai.usage.reasoning.output_tokens": fields.get("reasoning_tokens"),
        "chatcluster.purpose": fields.get("purpose"),
        "chatcluster.outcome": fields.get("outcome"),
        "chatcluster.attempt": fields.get("attempt"),
        "chatcluster.epoch": fields.get("epoch"),
        "chatcluster.takeovers": fields.get("takeovers"),
        "chatcluster.resumed": fields.get("resumed"),
    }
    named_by = ("purpose", "history_version", "attempt", "epoch")
    name = f"chat {model}" if model else "chat"
    return _Told(name, attributes, fields.get("duration_seconds"), fields.get("kind"), Kind.CLIENT, named_by)


def _call(fields: Fields) -> _Told:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": fields.get("tool"),
        "gen_ai.tool.call.id": fields.get("call_id"),
        "gen_ai.conversation.id": fields.get("chat_id"),
        "chatcluster.outcome": fields.get("outcome"),
        "chatcluster.epoch": fields.get("epoch"),
    }
    error = "tool_error" if fields.get("outcome") == "error" else None
    name = f"execute_tool {fields.get('tool')}"
    return _Told(name, attributes, fields.get("seconds"), error, named_by=("call_id", "epoch"))


def _asked(fields: Fields) -> _Told:
    attributes = {"gen_ai.conversation.id": fields.get("chat_id")}
    request = read_traceparent(str(fields.get(TRACEPARENT)).encode())
    links = () if request is None else (request,)
    return _Told("receive", attributes, 0, None, Kind.CONSUMER, (TRACEPARENT,), links)


def _request(fields: Fields) -> _Told:
    status, method, route = (fields.get(name) for name in ("status", "method", "route"))
    turns = list(_turns_of(fields))
    attributes = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status or None,
        "gen_ai.conversation.id": turns[0][0] if turns else None,
    }
    error = str(status or "_OTHER") if not isinstance(status, int) or not 0 < status < 500 else None
    roots = ({"chat_id": chat_id, "message_id": message_id} for chat_id, message_id in turns if message_id is not None)
    links = tuple(context_of("chat.turn", root) for root in roots)
    return _Told(f"{method} {route}", attributes, fields.get("duration_seconds"), error, Kind.SERVER, (), links)


def _turns_of(fields: Fields) -> Iterable[tuple[str, int | None]]:
    turns = fields.get("turns")
    return turns if isinstance(turns, list) else []


def _places_of_request(fields: Fields) -> tuple[Context, bytes]:
    """The span itself, and that of its caller."""
    caller = read_traceparent(str(fields[TRACEPARENT]).encode())
    assert caller is not None
    return Context(caller.trace_id, bytes.fromhex(str(fields["span_id"]))), caller.span_id


REQUEST = "http.request"
SPANS: dict[str, Callable[[Fields], _Told]] = {
    "chat.turn": _turn,
    "chat.steered": _turn,
    "model.asked": _attempt,
    "tool.called": _call,
    "chat.asked": _asked,
}


def _known(attributes: Mapping[str, object]) -> dict[str, Value]:
    """The fields that have a value, and none of them long."""
    known: dict[str, Value] = {}
    for name, value in attributes.items():
        if isinstance(value, int | float):
            known[name] = value
        elif isinstance(value, tuple):
            known[name] = tuple(map(_text, value))
        elif value is not None:
            known[name] = _text(value)
    return known


def _text(value: object) -> str:
    return str(value)[:TEXT_CHARACTERS_MAX]


def _digest(size: int, *named_by: object) -> bytes:
    return blake2b("\0".join(map(str, named_by)).encode(errors="replace"), digest_size=size).digest()
