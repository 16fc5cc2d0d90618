"""Spans as bytes: OTLP's protocol buffers, of which each message is its fields, one after the other. Pure.

A span is encoded once, when it ends, and a request is those bytes put together. The numbers of the fields are those of
``opentelemetry/proto/trace/v1/trace.proto``, which is stable.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from chatcluster import __version__
from chatcluster.tracing.spans import Span, Value

VARINT, FIXED64, BYTES = 0, 1, 2
FAILED = 2
"""The code of a status."""


def request(resource: Mapping[str, Value], spans: Iterable[bytes]) -> bytes:
    """The body of a request with these spans, each of them ``encoded``."""
    scope = _text(1, "chatcluster") + _text(2, __version__)
    of_scope = _message(1, scope) + b"".join(spans)
    of_resource = _message(1, _attributes(1, resource)) + _message(2, of_scope)
    return _message(1, of_resource)


def encoded(span: Span) -> bytes:
    """The span, as the field that it is of its scope."""
    parts = [_message(1, span.trace_id), _message(2, span.span_id)]
    if span.parent_id:
        parts.append(_message(4, span.parent_id))
    parts += [
        _text(5, span.name),
        _tag(6, VARINT) + _varint(span.kind),
        _tag(7, FIXED64) + struct.pack("<Q", span.start_ns),
        _tag(8, FIXED64) + struct.pack("<Q", span.end_ns),
        _attributes(9, span.attributes),
    ]
    parts += [_message(13, _message(1, link.trace_id) + _message(2, link.span_id)) for link in span.links]
    if span.error:
        parts.append(_message(15, _text(2, span.error) + _tag(3, VARINT) + _varint(FAILED)))
    return _message(2, b"".join(parts))


def _attributes(number: int, attributes: Mapping[str, Value]) -> bytes:
    return b"".join(_message(number, _text(1, key) + _message(2, _value(value))) for key, value in attributes.items())


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _text(1, value)
    if isinstance(value, bool):
        return _tag(2, VARINT) + _varint(value)
    if isinstance(value, int):
        return _tag(3, VARINT) + _varint(value)
    if isinstance(value, float):
        return _tag(4, FIXED64) + struct.pack("<d", value)
    return _message(5, b"".join(_message(1, _text(1, text)) for text in value))


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode(errors="replace"))


def _message(number: int, content: bytes) -> bytes:
    return _tag(number, BYTES) + _varint(len(content)) + content


def _tag(number: int, kind: int) -> bytes:
    return bytes((number << 3 | kind,))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first. What is below zero is as in 64 bits."""
    number &= (1 << 64) - 1
    encoded_bytes = bytearray()
    while number > 0x7F:
        encoded_bytes.append(number & 0x7F | 0x80)
        number >>= 7
    encoded_bytes.append(number)
    return bytes(encoded_bytes)
