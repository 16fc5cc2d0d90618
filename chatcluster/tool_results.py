"""What a model is given of a tool's result, and what is kept of it besides. Pure.

A result is made fit to be stored where it comes in, and never changed later. Of a long one the model gets the head and
the tail, cut between characters, with a line between them that says how much is left out and how to read it: all of
the text is kept, and ``read_result`` reads it by the piece. Images are not cut (``images.py`` scales them).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from chatcluster.parts import (
    ImagePart,
    JsonPart,
    NewMessage,
    ResourcePart,
    ResultContent,
    Role,
    TextPart,
    ToolResultPart,
    storable,
    strings_of,
)

SHOWN_BYTES_MAX = 32 << 10
"""The most text that a model gets of one result."""
KEPT_BYTES_MAX = 10 << 20
NOTE_BYTES = 512
READ_RESULT = "read_result"
"""The tool that reads on."""


class Taken(NamedTuple):
    """A result for the history, and all of its text where that is more."""

    message: NewMessage
    whole: bytes | None = None


def taken(
    call_id: str, content: Iterable[ResultContent], *, is_error: bool, bytes_max: int, notes: Iterable[str] = ()
) -> Taken:
    """The result of a call as it goes into history. One of more than ``bytes_max`` is an error. ``notes`` are ours, and
    stand before it."""
    pieces, before = tuple(content), tuple(TextPart(f"[{storable(note)}]\n") for note in notes)
    limit = min(bytes_max, KEPT_BYTES_MAX)
    if sum(len(text) for piece in pieces for text in strings_of(piece)) > limit:  # none has fewer bytes than characters
        return _too_large(call_id, before, limit)
    pieces = tuple(map(_storable, pieces))
    images = tuple(piece for piece in pieces if isinstance(piece, ImagePart))
    whole = "\n".join(_words(piece) for piece in pieces if not isinstance(piece, ImagePart)).encode()
    if len(whole) + sum(len(image.data) for image in images) > limit:
        return _too_large(call_id, before, limit)
    if len(whole) <= SHOWN_BYTES_MAX:
        return Taken(_message(call_id, (*before, *pieces), is_error))
    shown = TextPart(_head_and_tail(call_id, whole))
    return Taken(_message(call_id, (*before, shown, *images), is_error), whole)


def _too_large(call_id: str, before: tuple[TextPart, ...], limit: int) -> Taken:
    text = f"The tool returned more than {limit} bytes. Ask it for less at a time."
    return Taken(_message(call_id, (*before, TextPart(text)), is_error=True))


def refused(call_id: str, text: str) -> NewMessage:
    """An error in the place of the call's own result: it tells the model what to do."""
    return _message(call_id, (TextPart(storable(text)),), is_error=True)


def piece_of(data: bytes, offset: int, total: int) -> str:
    """Bytes from ``offset`` on of a text of ``total`` bytes, as text that says where it ends and how to read on."""
    start = 0
    while start < min(4, len(data)) and data[start] & 0xC0 == 0x80:
        start += 1  # the rest of a character that began before
    text = data[start:].decode("utf-8", "ignore")
    first, end = offset + start, offset + start + len(text.encode())
    more = f"; go on at offset {end}" if end < total else ", which is the end"
    return f"[bytes {first} to {end} of {total}{more}]\n{text}"


def _message(call_id: str, content: tuple[ResultContent, ...], is_error: bool) -> NewMessage:
    return NewMessage(Role.TOOL, (ToolResultPart(call_id, content, is_error),))


def _head_and_tail(call_id: str, whole: bytes) -> str:
    half = (SHOWN_BYTES_MAX - NOTE_BYTES) // 2
    head, tail = whole[:half].decode("utf-8", "ignore"), whole[-half:].decode("utf-8", "ignore")
    end = len(head.encode())
    left_out = len(whole) - end - len(tail.encode())
    note = (
        f"[{left_out} of {len(whole)} bytes are left out here. To read them, call {READ_RESULT} with "
        f'call_id "{call_id}" and offset {end}.]'
    )
    return f"{head}\n\n{note}\n\n{tail}"


def _words(piece: ResultContent) -> str:
    match piece:
        case JsonPart(json=text):
            return text
        case ResourcePart(uri=uri, text=text):
            return uri if text is None else f"{uri}\n{text}"
        case TextPart(text=text):
            return text
        case _:
            return ""


def _storable(piece: ResultContent) -> ResultContent:
    fields = {name: getattr(piece, name) for name in piece.__struct_fields__}
    return msgspec.structs.replace(
        piece, **{name: storable(text) for name, text in fields.items() if isinstance(text, str)}
    )
