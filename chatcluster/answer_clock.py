"""When the parts of one answer came: its first word, and how long was thought. Pure; its owner says what time it is.

A thought lasts from the moment from which on the reader waited for it, which is the question or the last word that is
no thought, to the first that comes after it. So it makes no difference whether a provider tells thoughts as they are
thought, or in one piece when they are over. The owner that received all of it measures it: a thought that is broken off
has no duration, and none has one that comes after an answer was taken over, as some of that comes all at once.

It is told behind the words of the thought, as a reasoning part without any.
"""

from __future__ import annotations

from chatcluster.parts import Part, ReasoningPart
from chatcluster.ports import Delta


class AnswerClock:
    def __init__(self) -> None:
        self.asked_at = 0.0
        self.first_at: float | None = None
        """When the first of the answer came."""
        self._is_whole = True
        """All of the answer is heard here."""
        self._waits_since = 0.0
        self._is_thinking = False
        self._sequence: int | None = None
        """The place behind the last of the thought (``Delta``)."""

    def asked(self, now: float) -> None:
        self.asked_at = self._waits_since = now

    def taken_over(self) -> None:
        self._is_whole = False

    def hear(self, part: Part, sequence: int | None, now: float) -> Delta | None:
        """Take the next part in; what is told before it, if a thought ends with it."""
        self.first_at = now if self.first_at is None else self.first_at
        if isinstance(part, ReasoningPart):
            self._is_thinking, self._sequence = True, sequence
            return None
        ended = self.end_thought(now)
        self._waits_since = now
        return ended

    def end_thought(self, now: float) -> Delta | None:
        """Nothing more comes of the thought under way, if there is one: how long it was."""
        duration_ms = round((now - self._waits_since) * 1000)
        is_told = self._is_thinking and self._is_whole and duration_ms > 0
        self._is_thinking = False
        return Delta(ReasoningPart("", duration_ms), self._sequence) if is_told else None
