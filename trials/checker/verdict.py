"""A run as a whole: its chats, readers, writes, faults and recoveries, and the verdict over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from checker.agreement import Agreement
from checker.conversation import Conversation
from checker.findings import Doubt
from checker.history import PUBLIC, Fault, FinalChat, Kind, Recovery, Violation, Write
from checker.loss import Loss, may_be_lost
from checker.subscriber import Subscriber

DETAILS_MAX = 1000
"""Violations that are kept in full; all are counted."""
AFTERMATH_SECONDS = 10.0
"""How long after its end a fault still explains that parts were not shown."""
STOP_SECONDS_MAX = 8.0
"""An interruption takes no longer than a takeover of its chat (6 s) and a bit."""


@dataclass(frozen=True)
class Verdict:
    counts: dict[Kind, int]
    """Every kind, also those of which there was nothing."""
    violations: tuple[Violation, ...]
    excused: int
    """Previews that a fault of their owner or of Redis cut short."""
    lost_by_failover: int = 0
    """Acknowledged messages that had not reached the standby when it took over."""

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.counts.values())


@dataclass
class _Chat:
    agreement: Agreement = field(default_factory=Agreement)
    readers: list[Subscriber] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    forgotten_up_to: int = 0
    """Versions up to this may be of what a failover took back."""
    forgotten_epoch: int = -1
    """What tenures up to this one were saying, a failover may have brought back, though it had ended."""
    failures: int = 0
    """Turns that ended in an error before its readers began anew."""

    @property
    def known_failures(self) -> int:
        return self.failures + max((reader.counts.failures for reader in self.readers), default=0)


class Checker:
    """Collects while a run goes on, and decides. ``on_violation`` hears of each violation as it is found.

    Every chat that was written to or read must be concluded; ``verdict`` says so if one was not.
    """

    def __init__(
        self,
        on_violation: Callable[[Violation], None] = lambda _: None,
        *,
        stop_seconds_max: float = STOP_SECONDS_MAX,
    ) -> None:
        self.faults: list[Fault] = []
        self.losses: list[Loss] = []
        self._lost_by_failover = 0
        self._counts: Counter[Kind] = Counter()
        self._on_violation = on_violation
        self._stop_seconds_max = stop_seconds_max
        self._violations: list[Violation] = []
        self._excused = 0
        self._chats: dict[str, _Chat] = {}

    def subscriber(self, chat: str, name: str) -> Subscriber:
        """A new reader of ``chat``."""
        place = self._chats.setdefault(chat, _Chat())
        reader = Subscriber(chat, name, place.agreement, self._found, stop_seconds_max=self._stop_seconds_max)
        if place.forgotten_up_to:
            reader.grounds.unsettle(place.agreement, place.forgotten_up_to)
        reader.grounds.may_be_gone = self.may_be_gone(chat)
        place.readers.append(reader)
        return reader

    def wrote(self, write: Write) -> None:
        self._chats.setdefault(write.chat, _Chat()).writes.append(write)

    def report(self, violation: Violation) -> None:
        self._counts[violation.kind] += 1
        if len(self._violations) < DETAILS_MAX:
            self._violations.append(violation)
        self._on_violation(violation)

    # --- losses -------------------------------------------------------------------------------

    @property
    def losing(self) -> bool:
        """Whether a failover is under way. No chat is concluded meanwhile: what is true of it is not known."""
        return bool(self.losses) and self.losses[-1].until == float("inf")

    def begin_loss(self, since: float) -> None:
        """What is acknowledged or shown from ``since`` on may be lost."""
        self.losses.append(Loss(since))

    def end_loss(self, until: float) -> frozenset[str]:
        """What is acknowledged after ``until`` is safe again. The chats whose readers have to begin anew."""
        loss = self.losses[-1]
        loss.until = until
        touched = frozenset(name for name, chat in self._chats.items() if _is_touched(chat, loss))
        for name in touched:
            chat = self._chats[name]
            chat.failures = chat.known_failures
            chat.forgotten_epoch = max((reader.epoch for reader in chat.readers), default=-1)
            chat.readers.clear()
            chat.agreement = Agreement()
        for violation in loss.held:
            if violation.chat not in touched:
                self.report(violation)
        loss.held.clear()
        return touched

    def forgotten(self, chat: str, *, up_to_version: int) -> None:
        """A failover took back what the chat's readers may have been told. They are to be told to start anew, at
        ``up_to_version`` or above; what they find wrong until then does not count."""
        place = self._chats[chat]
        place.agreement, place.forgotten_up_to = Agreement(), up_to_version
        for reader in place.readers:
            reader.grounds.unsettle(place.agreement, up_to_version)

    def may_be_gone(self, chat: str) -> bool:
        """Whether a failover may have taken back that the chat was created."""
        return any(write.op == "create" and may_be_lost(write, self.losses) for write in self._chats[chat].writes)

    def gone(self, chat: str) -> None:
        """The chat is not there any more, which may be. Nothing of it follows."""
        assert self.may_be_gone(chat)
        self._lost_by_failover += sum(write.acknowledged and bool(write.text) for write in self._chats.pop(chat).writes)

    def _found(self, violation: Violation) -> None:
        """By a reader, which may have been told what a failover takes back."""
        if self.losing:
            self.losses[-1].held.append(violation)
        else:
            self.report(violation)

    # --- the end ------------------------------------------------------------------------------

    def conclude(self, final: FinalChat, failures: Sequence[Fault] = ()) -> None:
        """The chat has come to rest, or had the time to; all faults so far are known, and ``failures`` of its model.
        Nothing of it follows."""
        chat = self._chats.pop(final.chat, _Chat())
        conversation = Conversation(final, chat.writes, chat.known_failures, self.report, self.losses)
        conversation.check()
        self._lost_by_failover += conversation.lost_by_failover
        for reader in chat.readers:
            reader.finish(final)
            for doubt in reader.findings.doubts:
                self._settle(doubt, doubt.worker_id or chat.agreement.workers.get(doubt.epoch), failures)

    def judge(self, recovery: Recovery) -> None:
        """Whether a reader was told in time, and nothing was cut that need not have been."""
        fault = recovery.fault
        late = max(recovery.sign_seconds or 0.0, recovery.takeover_seconds or 0.0)
        if recovery.sign_seconds is None and recovery.chat in self._chats and self.may_be_gone(recovery.chat):
            return  # there may be nothing to be told of
        if (recovery.sign_seconds is None or late > recovery.bound_seconds) and recovery.chat not in fault.chats:
            seconds = "never" if recovery.sign_seconds is None else f"after {late:.2f} s"
            victim = f" of {fault.replica}" if fault.replica else ""
            detail = f"was told {seconds} after a {fault.kind}{victim}; bound {recovery.bound_seconds:g} s"
            self.report(Violation(Kind.LATE, recovery.chat, detail, fault.time, recovery.reader))
        if recovery.cut_by_drain and recovery.epoch > self._chats.get(recovery.chat, _Chat()).forgotten_epoch:
            detail = f"an answer was cut by the drain of {fault.replica}, and not handed over"
            self.report(Violation(Kind.CUT, recovery.chat, detail, fault.time, recovery.reader))

    def verdict(self) -> Verdict:
        """The end of the run."""
        for chat in self._chats:
            self.report(Violation(Kind.STUCK, chat, "its end is not known"))
        self._chats.clear()
        return Verdict(
            {kind: self._counts[kind] for kind in Kind}, tuple(self._violations), self._excused, self._lost_by_failover
        )

    def _settle(self, doubt: Doubt, worker_id: str | None, failures: Sequence[Fault]) -> None:
        """A fault explains the doubt, or it is a violation."""
        if any(_explains(fault, doubt, worker_id) for fault in (*self.faults, *failures)):
            self._excused += 1
        else:
            self.report(doubt.violation)


def _is_touched(chat: _Chat, loss: Loss) -> bool:
    return any(loss.touches(write) for write in chat.writes) or any(
        loss.covers(time) for reader in chat.readers for time in reversed(reader.counts.durable_times)
    )


def _explains(fault: Fault, doubt: Doubt, worker_id: str | None) -> bool:
    time = doubt.violation.time
    of_owner = worker_id is not None and fault.worker_id == worker_id
    if fault.kind == "provider":
        failed = of_owner or doubt.violation.chat in fault.chats
        is_of_words = doubt.violation.kind is not Kind.UNSTOPPED  # that a stop is late is no model's doing
        return time is not None and fault.time <= time and failed and is_of_words and doubt.began <= fault.until
    if time is None or fault.time > time or doubt.began > fault.until + AFTERMATH_SECONDS:
        return False
    frozen = fault.kind == "stop" and doubt.replica in (fault.replica, PUBLIC)
    if doubt.violation.kind is Kind.UNSTOPPED:
        return frozen or fault.kind.startswith(("postgres", "failover"))
    if fault.kind.startswith(("redis", "postgres", "failover")) or not doubt.shown:
        return True
    deaf = fault.kind == "freeze-connection" and doubt.replica in (fault.replica, PUBLIC)
    return of_owner or frozen or deaf
