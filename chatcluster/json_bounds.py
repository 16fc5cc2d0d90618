"""JSON that strangers wrote: what takes long to decode is refused before it is. Pure, and quick: a look at the bytes.

A step of the loop serves nobody else, and a decoder does its whole work in one. How long it takes goes with the number
of values rather than of bytes, and some numbers cost hundreds of times what others do: those that are close to the
largest and the smallest that there are (1e308). No honest document has very many of either. Characters within texts
are no values, however many of them look like it.
"""

from __future__ import annotations

import re

import msgspec

VALUES_MAX = 200_000
"""So many of the most costly kind, empty objects, take some 30 ms."""
EXTREMES_MAX = 1000
"""Numbers of an extreme size: some 7 ms."""
VALUE_BYTES_MIN = 2
EXTREME_BYTES_MIN = 5

_SMALL = bytes.maketrans(b"E", b"e")
_EXTREME = {
    b"e2": re.compile(rb"e29[0-9]"),
    b"e3": re.compile(rb"e3[0-3][0-9]"),
    b"e0": re.compile(rb"e0+(?:29|3[0-3])[0-9]"),
    b"e+": re.compile(rb"e\+0*(?:29|3[0-3])[0-9]"),
    b"e-": re.compile(rb"e-0*(?:29|3[0-3])[0-9]"),
}
"""Exponents of an extreme size, by what they begin with. Each pattern begins with two characters that are none other:
so it is tried where these are, and not at each letter of a text."""


def bounded(data: bytes, *, values_max: int = VALUES_MAX, extremes_max: int = EXTREMES_MAX) -> bytes:
    """``data``. Raises ``msgspec.ValidationError`` for what has more values than that, or numbers of that kind."""
    if len(data) > EXTREME_BYTES_MIN * extremes_max and _has_more_extremes(data, extremes_max):
        raise msgspec.ValidationError(f"there are more than {extremes_max} numbers of an extreme size")
    if len(data) > VALUE_BYTES_MIN * values_max and _has_more_values(data, values_max):
        raise msgspec.ValidationError(f"there are more than {values_max} values")
    return data


def _has_more_extremes(data: bytes, extremes_max: int) -> bool:
    plain = data.translate(_SMALL)
    if sum(map(plain.count, _EXTREME)) <= extremes_max:
        return False
    found = (pattern.findall(plain) for beginning, pattern in _EXTREME.items() if beginning in plain)
    return sum(map(len, found)) > extremes_max


def _has_more_values(data: bytes, values_max: int) -> bool:
    """Between two values there is a comma, outside of any text."""
    if data.count(b",") <= values_max:
        return False
    plain = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 4 * values_max:
        return True  # more texts than values: to tell them apart would take long as well
    return sum(piece.count(b",") for piece in plain.split(b'"')[::2]) > values_max
