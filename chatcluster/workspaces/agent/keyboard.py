"""Characters that no key has, given keys that have no character: so that ``xdotool`` finds one for each that it types.

Left alone it gives them the same key, one after the other, and takes each away again: a program that is slow to hear of
it types something else. Here they are given before, programs have time to hear of it, and nothing is taken away before
others need the keys.

It is done by a program, ``GIVE_KEYS``, which can be ended: what works on the screen could have put a server there that
never answers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

CHARACTERS_MAX = 16
"""Different ones at a time: there are about twenty keys to give."""
TYPED_AT_ONCE = 100
LATIN_1 = 0x100
UNICODE_KEYSYMS = 0x0100_0000

GIVE_KEYS = """
import ctypes, sys
library = ctypes.CDLL("libX11.so.6")
library.XOpenDisplay.restype = ctypes.c_void_p
library.XGetKeyboardMapping.restype = ctypes.POINTER(ctypes.c_ulong)
display = ctypes.c_void_p(library.XOpenDisplay(None))
if not display:
    sys.exit("no display")
first, last, width = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
library.XDisplayKeycodes(display, ctypes.byref(first), ctypes.byref(last))
codes = range(first.value, last.value + 1)
found = library.XGetKeyboardMapping(display, ctypes.c_ubyte(first.value), len(codes), ctypes.byref(width))
wanted = list(map(int, sys.argv[1:]))
keys = {code: set(found[at * width.value : (at + 1) * width.value]) - {0} for at, code in enumerate(codes)}
missing = [symbol for symbol in wanted if not any(symbol in symbols for symbols in keys.values())]
is_given = lambda symbols: all(0xA0 <= symbol < 0x100 or symbol >> 24 == 1 for symbol in symbols)
spare = [code for code in codes if is_given(keys[code]) and not keys[code] & set(wanted)]
for symbol, code in zip(missing, sorted(spare, key=lambda code: len(keys[code]))):
    library.XChangeKeyboardMapping(display, code, 2, (ctypes.c_ulong * 2)(symbol, symbol), 1)
library.XSync(display, 0)
"""


class Piece(NamedTuple):
    """A piece of a text: typed at once, once each of ``odd`` has a key."""

    text: str
    odd: str


def pieces(text: str) -> Iterator[Piece]:
    """What is typed one after the other. A piece takes about a second; those of one alphabet have the same keys."""
    odd: dict[str, None] = {}
    start = 0
    for at, character in enumerate(text):
        is_new = not character.isascii() and character not in odd
        if is_new and len(odd) == CHARACTERS_MAX:
            yield from _cut(text[start:at], "".join(odd))
            odd, start = {}, at
        if is_new:
            odd[character] = None
    yield from _cut(text[start:], "".join(odd))


def keys_for(odd: str) -> list[str]:
    """The program that gives keys to these characters."""
    symbols = (ord(character) if ord(character) < LATIN_1 else UNICODE_KEYSYMS + ord(character) for character in odd)
    return [sys.executable, "-I", "-S", "-c", GIVE_KEYS, *map(str, symbols)]


def _cut(text: str, odd: str) -> Iterator[Piece]:
    for start in range(0, len(text), TYPED_AT_ONCE):
        yield Piece(text[start : start + TYPED_AT_ONCE], odd)
