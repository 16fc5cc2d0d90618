"""JSON that strangers wrote, where it holds what no text can: made such as a decoder takes it. Pure.

A program that cuts a text in the middle of a character writes half a surrogate pair; another one writes Latin-1, or a
byte order mark first. A decoder refuses the whole document for it, and what the document tells of has happened.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\.", re.DOTALL)
"""A whole pair, half a one, or another escape."""


def mended(data: bytes) -> bytes:
    """The same with U+FFFD for bytes that are no UTF-8 and for halves of surrogate pairs, without a byte order mark."""
    text = data.decode("utf-8-sig", "replace")
    return _ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], text).encode()


def decoded(data: bytes, kind: Any = Any) -> Any:
    """What the JSON says, mended if need be. Raises ``msgspec.MsgspecError`` and ``RecursionError``."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(mended(data), type=kind)
