"""What is found wrong with what a reader was told, and what a reader is judged by."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from checker.agreement import Agreement
from checker.history import Event, Kind, Violation


class Doubt(NamedTuple):
    """A preview that was shorter than what it became, or of which less was kept. ``shown``: whether there was one.

    Or that an interruption was over later than it should have been.
    """

    violation: Violation
    epoch: int
    began: float
    replica: str
    shown: bool
    worker_id: str | None = None
    """The owner of that epoch, as far as it was known by then: a failover may give the epoch to another one."""


class Grounds:
    """A reader is judged by what the chat's other readers were told: their ``agreement``.

    After a failover that loses transactions it is not judged, until it is told to start anew above all that is lost.
    """

    def __init__(self, agreement: Agreement) -> None:
        self.agreement = agreement
        self.may_be_gone = False
        """A failover may have taken back that the chat was created."""
        self._next = agreement
        self._unsettled_up_to = 0

    @property
    def settled(self) -> bool:
        return not self._unsettled_up_to

    def unsettle(self, agreement: Agreement, up_to_version: int) -> None:
        """What was told of late may be lost; ``agreement`` is that of the readers from then on."""
        self.agreement, self._next, self._unsettled_up_to = Agreement(), agreement, up_to_version

    def settles_at(self, version: int) -> bool:
        """Whether a history that is told anew at this version settles it."""
        return 0 < self._unsettled_up_to <= version

    def settle(self) -> None:
        self.agreement, self._unsettled_up_to = self._next, 0

    def judge_the_end(self) -> None:
        """What a reader holds in the end is judged in any case."""
        self._unsettled_up_to = 0


class Findings:
    """Of one reader. ``report`` gets each violation as it is found; ``doubts`` are for when all faults are known."""

    def __init__(self, chat: str, reader: str, report: Callable[[Violation], None], grounds: Grounds) -> None:
        self.report = report
        self.doubts: list[Doubt] = []
        self.event = Event(0.0, "", "", "", {})
        """What is being looked at."""
        self._chat = chat
        self._reader = reader
        self._grounds = grounds

    def violate(self, kind: Kind, detail: str) -> None:
        if self._grounds.settled:
            self.report(self._violation(kind, detail))

    def disagree(self, detail: str | None) -> None:
        """``detail`` is what is said against another reader, if anything."""
        if detail is not None:
            self.violate(Kind.OWNER, detail)

    def doubt(self, kind: Kind, detail: str, *, epoch: int, began: float, shown: bool) -> None:
        if self._grounds.settled:
            owner = self._grounds.agreement.workers.get(epoch)
            self.doubts.append(Doubt(self._violation(kind, detail), epoch, began, self.event.replica, shown, owner))

    def _violation(self, kind: Kind, detail: str) -> Violation:
        return Violation(kind, self._chat, detail, self.event.time, self._reader, self.event.cursor)
