"""A request's body in slices: each is a bounded piece of work, and the caller lets others run between two. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chatcluster.parts import encode

SLICE_BYTES = 128 << 10
PIECE_BYTES = 64
"""What a piece of a slice counts for, besides its own."""


def slices(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces, joined until they are worth a slice. An empty piece says that something was looked at."""
    slice_, work = bytearray(), 0
    for piece in pieces:
        slice_ += piece
        work += PIECE_BYTES + len(piece)
        if work >= SLICE_BYTES:
            yield bytes(slice_)
            slice_, work = bytearray(), 0
    yield bytes(slice_)


def encoded_text(encoded: bytes) -> Iterator[bytes]:
    """What is encoded already, in pieces that fit."""
    for start in range(0, len(encoded), SLICE_BYTES):
        yield encoded[start : start + SLICE_BYTES]


def text_pieces(text: str) -> Iterator[bytes]:
    """A text as it stands between the quotes of JSON."""
    for start in range(0, len(text), SLICE_BYTES):
        yield encode(text[start : start + SLICE_BYTES])[1:-1]
