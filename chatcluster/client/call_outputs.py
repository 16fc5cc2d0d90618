"""What running calls have printed, as a client keeps it: pieces of output, joined by their offsets.

A piece says from which byte of the output to which it goes. What is known already is passed over, so it does not matter
who tells it how often: after a takeover another replica tells it from the first byte on. Where a piece begins behind
what is known something was left out, and what is kept begins anew with that piece. Pure.
"""

from __future__ import annotations

import msgspec

from chatcluster.parts import ToolOutputPart

KEPT_CHARACTERS_MAX = 1 << 20


class CallOutput(msgspec.Struct, frozen=True):
    """What a call has printed, from byte ``offset`` of its output up to ``end``. With an ``offset`` above 0 it is not
    all of it; the call's result says more."""

    offset: int
    end: int
    text: str


def with_piece(known: CallOutput | None, piece: ToolOutputPart) -> CallOutput:
    """The output with a further piece."""
    if known is None or piece.offset > known.end:
        return CallOutput(piece.offset, piece.end, piece.text)
    if piece.end <= known.end:
        return known
    more = _behind(piece, known.end)
    if more is None:
        return CallOutput(piece.offset, piece.end, piece.text)
    if len(known.text) + len(more) > KEPT_CHARACTERS_MAX:
        return CallOutput(known.end, piece.end, more)
    return CallOutput(known.offset, piece.end, known.text + more)


def _behind(piece: ToolOutputPart, end: int) -> str | None:
    """What a piece has behind byte ``end``; None if it cannot be told, as it has bytes that are no text."""
    if piece.offset == end:
        return piece.text
    data = piece.text.encode("utf-8", "surrogatepass")
    if len(data) != piece.end - piece.offset:
        return None
    return data[end - piece.offset :].decode("utf-8", "replace")
