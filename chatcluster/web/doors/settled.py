"""The log of a turn without what had come to nothing when it was asked for. Pure.

For clients that begin anew whenever they come: they need not be told what is no part of the answer. Words of an attempt
are held until it is known that they stand: a message says all of them, and what is under way is said when the log is up
to date. From then on everything is passed as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from chatcluster.content import coalesced
from chatcluster.parts import Part, ReasoningPart, SourcePart, TextPart, ToolCallPart, encode
from chatcluster.turn_log import Attempted, Told, UpToDate

SAID = (TextPart, ReasoningPart, SourcePart, ToolCallPart)
PARTS_MAX = 512
"""Held as they came. More are joined: a word in memory takes more than its letters."""


class Settled:
    def __init__(self) -> None:
        self._held: list[Part] = []
        self._is_live = False

    def passed(self, told: Told) -> Sequence[Told]:
        """What is to be told now."""
        if self._is_live:
            return (told,)
        if isinstance(told, SAID):
            self._held.append(told)
            if len(self._held) % PARTS_MAX == 0:
                self._held = coalesced(self._held)
            return ()
        held, self._held = self._held, []
        if isinstance(told, UpToDate):
            self._is_live = True
            return (Attempted(), *held, told)
        return () if isinstance(told, Attempted) else (told,)


class Fold(Protocol):
    """A turn as the events of some door."""

    @property
    def is_over(self) -> bool: ...

    def tell(self, told: Told) -> Iterator[Any]: ...


class SettledNarrator:
    """``Narrator``: each event of a fold as one of server-sent events, and ``end`` behind the last one. ``anew``: what
    had come to nothing before is left out."""

    def __init__(self, fold: Fold, *, anew: bool, end: bytes = b"") -> None:
        self._fold = fold
        self._settled = Settled() if anew else None
        self._end = end

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        for one in (told,) if self._settled is None else self._settled.passed(told):
            was_over = self.is_over
            for event in self._fold.tell(one):
                yield b"data: %s\n\n" % encode(event)
            if self.is_over and not was_over and self._end:
                yield self._end
