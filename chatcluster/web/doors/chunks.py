"""How the text of an item is cut into deltas: by the text alone. Pure.

The parts that a model's words come in differ from those in which they were stored, and nobody can tell them from a
message. So the deltas of an item do not follow them: the first is one character, which says at once that an answer has
begun; each further one ends with a space, or with a character of a script that has none, or after ``DELTA_MAX``. The
same text so has the same deltas, as it streams, after a takeover, and years later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chatcluster.parts import ToolCallPart
from chatcluster.texts import is_blank

DELTA_MAX = 24
_DELTA = re.compile(rf".{{3,{DELTA_MAX - 1}}}?[\s\u2e80-\U0010ffff]|.{{{DELTA_MAX}}}", re.DOTALL)
PIECE_MAX = 16 << 10
"""The most that is told in one go, such as arguments."""
NO_ARGUMENTS = "{}"
"""What a model means that gives none. Programs decode them, and nothing is no JSON."""


class Cutter:
    """Cuts one text, however it arrives."""

    def __init__(self) -> None:
        self._held = ""
        self._has_begun = False

    def add(self, text: str) -> Iterator[str]:
        """The deltas that are complete with this piece of the text."""
        if not self._has_begun and text:
            self._has_begun = True
            yield text[0]
            text = text[1:]
        held, end = self._held + text, 0
        for delta in _DELTA.finditer(held):
            end = delta.end()
            yield delta[0]
        self._held = held[end:]

    def rest(self) -> str:
        """What is left when the text is over."""
        held, self._held = self._held, ""
        return held


def pieces(text: str) -> Iterator[str]:
    """A text that is there as a whole, in pieces that fit an event."""
    for start in range(0, len(text), PIECE_MAX):
        yield text[start : start + PIECE_MAX]


def arguments_of(call: ToolCallPart) -> str:
    """As a client is told of them."""
    return NO_ARGUMENTS if is_blank(call.arguments) else call.arguments
