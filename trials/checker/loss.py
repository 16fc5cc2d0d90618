"""What a failover to an asynchronous standby may take back: the last moments before it, and nothing else (P1).

A **loss** is a span: what was acknowledged or shown in it need not have been on the standby. What was acknowledged
before it was, by measurement, and must be there.

A chat is **touched** by a loss if something durable of it was written or shown in that span. Its readers may have been
told what is no longer true, and no wire can make that unsaid: so they begin anew, as a client does that is loaded
again, and what they found wrong meanwhile does not count. From then on the chat is judged as every other one; and a
chat that was not touched is judged without a break. One that was created in the span may be gone, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from checker.history import Violation, Write

DELIVERY_SECONDS_MAX = 1.0
"""How late what was committed in the span may be acknowledged or shown."""
DURABLE_EVENTS = ("message", "status", "queue", "history_reset", "error", "retry")


@dataclass
class Loss:
    """``until`` is open while it is under way; ``held`` is what was found meanwhile."""

    since: float
    until: float = float("inf")
    held: list[Violation] = field(default_factory=list)

    def covers(self, time: float) -> bool:
        return self.since <= time <= self.until + DELIVERY_SECONDS_MAX

    def touches(self, write: Write) -> bool:
        """Whether what the write did may be lost."""
        return write.began <= self.until + DELIVERY_SECONDS_MAX and write.ended >= self.since


def may_be_lost(write: Write, losses: Iterable[Loss]) -> bool:
    return any(loss.touches(write) for loss in losses)
