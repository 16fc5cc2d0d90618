"""Tells what is found: each violation goes into the record, and to people."""

from __future__ import annotations

from collections.abc import Callable, Collection

from checker import PROMISES, Kind, Violation

from chaos.record import Record


class Teller:
    """``say`` gets a line for people. What is ``unjudged`` is told as well, and is no violation."""

    def __init__(self, record: Record, say: Callable[[str], None], unjudged: Collection[Kind]) -> None:
        self.record = record
        self.say = say
        self.unjudged = unjudged

    def violated(self, violation: Violation) -> None:
        seconds = None if violation.time is None else round(self.record.seconds(violation.time), 4)
        self.record.note(violation={**violation._asdict(), "promise": PROMISES[violation.kind], "time": seconds})
        self.record.flush()
        where = f"chat {violation.chat} reader {violation.reader or '-'} at {violation.cursor or '-'}"
        word = "late, not judged," if violation.kind in self.unjudged else "VIOLATION"
        self.say(f"{word} of {PROMISES[violation.kind]}, {violation.kind}: {where}: {violation.detail}")
