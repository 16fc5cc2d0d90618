"""The log of a turn without what had come to nothing when it was asked for. Pure.

For clients that begin anew whenever they come: they need not be told what is no part of the answer. Words of an attempt
are held until it is known that they stand: a message says all of them, and what is under way is said when the log is up
to date. From then on everything is passed as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatcluster.content import coalesced
from chatcluster.parts import Part, ReasoningPart, TextPart, ToolCallPart
from chatcluster.turn_log import Attempted, Told, UpToDate

SAID = (TextPart, ReasoningPart, ToolCallPart)
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
