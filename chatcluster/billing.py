"""The attempts of one tenure that ended, until they are booked with its next transaction.

An attempt is booked by the commit that ends it: the answer, the failure, the interruption. Where the chat moved under
it there is none of its own, and it goes with whatever the owner commits next. A commit of unknown outcome is repeated
with what it had; that an attempt is booked once is the store's affair, which knows it by its history and its number.

What happens on failure: if the owner dies, or is fenced, before it commits, the burial books the attempt as lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from chatcluster import telemetry, trace_context
from chatcluster.attempt import Attempt
from chatcluster.errors import ProviderError
from chatcluster.parts import Message
from chatcluster.ports import Chat
from chatcluster.usage import COUNTED, Spent, SpentOutcome, cost_micros, counts_of

SUMMARIES_PER_TENURE = 1_000_000


class Unbooked:
    """What a tenure has spent and not booked yet."""

    def __init__(self) -> None:
        self.begun = (0, 0)
        """The newest attempt that the tenure has begun: the version of the history that it answers, and its number."""
        self._spent: list[Spent] = []
        self._summaries = 0

    @contextmanager
    def attempt(
        self, chat: Chat, attempt: Attempt, *, asked: Message | None = None, compaction: bool = False
    ) -> Iterator[None]:
        """The attempt takes place in this block, and its end is that of the block. Of an answer to ``asked``, or of a
        summary."""
        outcome = SpentOutcome.INTERRUPTED
        number = self._number_of_summary(chat) if compaction else chat.attempt
        fields = _fields(chat, number, asked, compaction=compaction)
        with telemetry.span("model.asked", **fields) as told:
            try:
                with trace_context.working("model.asked", fields):
                    yield
                outcome = SpentOutcome.COMPACTION if compaction else SpentOutcome.COMMITTED
            except ProviderError as error:
                outcome = SpentOutcome.FAILED
                told["kind"] = error.kind
                raise
            finally:
                told |= attempt.told | {"outcome": str(outcome)}
                if attempt.has_started:
                    self._add(_spent(chat, attempt, outcome, number))

    def _number_of_summary(self, chat: Chat) -> int:
        """Unlike that of any attempt at an answer, and of any other summary, also of another owner."""
        self._summaries += 1
        return -(chat.epoch * SUMMARIES_PER_TENURE + self._summaries)

    def _add(self, spent: Spent) -> None:
        """What asks several times, as a summary of too long a history does, is one attempt all the same."""
        for place, one in enumerate(self._spent):
            if (one.history_version, one.attempt) == (spent.history_version, spent.attempt):
                self._spent[place] = _together(one, spent)
                return
        self._spent.append(spent)

    @property
    def spent(self) -> tuple[Spent, ...]:
        return tuple(self._spent)

    def begun_at(self, history_version: int) -> int:
        """The number of the newest attempt at the next message of that history; 0 if the last was of another."""
        return self.begun[1] if self.begun[0] == history_version else 0

    def newest_attempt(self, history_version: int) -> int:
        """The highest number of an attempt at the next message of that history; 0 if there is none. One that is booked
        counts as well: a failover may have lost the number, and the booking."""
        spent = (one.attempt for one in self._spent if one.history_version == history_version)
        return max(self.begun_at(history_version), *spent, 0)

    def booked(self, spent: tuple[Spent, ...]) -> None:
        """Forget these: they are in the database now."""
        self._spent = [one for one in self._spent if one not in spent]

    def moved(self) -> None:
        """The chat moved before the commit: what was answered did not become history as it was meant."""
        self._spent = [_cut_short(one) for one in self._spent]


def _fields(chat: Chat, number: int, asked: Message | None, *, compaction: bool) -> dict[str, object]:
    return {
        "chat_id": str(chat.id),
        "message_id": asked and asked.id,
        "purpose": "summary" if compaction else "answer",
        "history_version": chat.history_version,
        "attempt": number,
        "epoch": chat.epoch,
        "takeovers": max(0, chat.takeovers - 1),
    }


def _spent(chat: Chat, attempt: Attempt, outcome: SpentOutcome, number: int) -> Spent:
    meter = attempt.meter
    return Spent(
        history_version=chat.history_version,
        attempt=number,
        epoch=chat.epoch,
        outcome=outcome,
        model=meter.model or attempt.asked_model,
        provider=meter.provider,
        cost_micros=cost_micros(meter.usage, meter.prices),
        **counts_of(meter.usage),
    )


def _together(one: Spent, other: Spent) -> Spent:
    """The sum of the two, as far as it is known; what became of the attempt is told by the later one."""
    sums: dict[str, int | None] = {}
    for name in (*COUNTED, "cost_micros"):
        known = [count for count in (getattr(one, name), getattr(other, name)) if count is not None]
        sums[name] = sum(known) if known else None
    return msgspec.structs.replace(other, **sums)


def _cut_short(spent: Spent) -> Spent:
    if spent.outcome is not SpentOutcome.COMMITTED:
        return spent
    return msgspec.structs.replace(spent, outcome=SpentOutcome.INTERRUPTED)
