"""What a terminal shows as it comes: an answer, and the output of running calls.

Nothing twice and nothing missing, whatever becomes of an attempt, and nothing that commands the terminal: an answer
says whatever its model has read somewhere. Elsewhere, in a file or a pipe, it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from chatcluster.client.call_outputs import CallOutput, with_piece
from chatcluster.parts import ToolOutputPart
from chatcluster.texts import tame, visible

LINE_CHARACTERS_MAX = 1000


class OutputLines:
    """What one running call prints, line by line."""

    def __init__(self) -> None:
        self._known: CallOutput | None = None
        self._begun = ""
        """The beginning of a line that has no end yet."""

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


class Printer:
    """Prints an answer that is known piece by piece, and that may begin anew."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_screen = out.isatty()
        self._printed = ""

    def show(self, text: str) -> None:
        """``text`` is the answer as far as it is known: print what of it is not on the screen yet."""
        if text.startswith(self._printed):
            self._write(text[len(self._printed) :])
        elif not self._printed.startswith(text):
            self._write("\n\n[the answer begins anew]\n\n" + text)
        else:
            return
        self._printed = text

    def finish(self, text: str) -> None:
        """``text`` is the whole answer."""
        self.show(text)
        if self._printed and not self._printed.endswith("\n"):
            self._write("\n")
        self._printed = ""

    def _write(self, text: str) -> None:
        self._out.write(tame(text) if self._is_screen else text)
        self._out.flush()
