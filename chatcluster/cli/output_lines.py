"""What running calls print, line by line, for a terminal: nothing twice, and nothing that commands the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from chatcluster.client.call_outputs import CallOutput, with_piece
from chatcluster.parts import ToolOutputPart
from chatcluster.texts import visible

LINE_CHARACTERS_MAX = 1000


class OutputLines:
    """Of one call."""

    def __init__(self) -> None:
        self._known: CallOutput | None = None
        self._begun = ""
        """Of a line that has no end yet."""

    def add(self, piece: ToolOutputPart) -> Iterator[str]:
        """The lines that end with this piece, as they may be shown."""
        before, self._known = self._known, with_piece(self._known, piece)
        is_more = before is not None and before.offset == self._known.offset
        more = self._known.text[len(before.text) :] if before is not None and is_more else self._known.text
        if piece.offset > (0 if before is None else before.end):
            yield "…"
        *lines, self._begun = (self._begun + more).replace("\r\n", "\n").split("\n")
        yield from map(_shown, lines)

    def rest(self) -> Iterator[str]:
        """What there is of the last line, when the call has ended."""
        if self._begun:
            yield _shown(self._begun)


def _shown(line: str) -> str:
    return visible(line[:LINE_CHARACTERS_MAX].expandtabs())
