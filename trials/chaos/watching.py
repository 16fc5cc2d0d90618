"""Watches readers through a fault: each until it was told that its chat goes on, or the bound is past.

What comes of it is judged, goes into the record, and is added up for the end: ``Recovered``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace

import trio
from checker import Checker, Fault, Kind, Recovery, Violation

from chaos.api import Request
from chaos.faults import BOUND_SECONDS
from chaos.fleet import Replica
from chaos.reader import Reader
from chaos.record import Record
from chaos.recovery import Watch
from chaos.victims import Victims, is_elsewhere

POLL_SECONDS = 0.05
BOUND_MARGIN_SECONDS = 4.0
"""How long past the bound is waited to learn how late it was."""
AT_WORK = ("running", "interrupting")


@dataclass
class Recovered:
    """What came of all faults so far."""

    counts: Counter[str] = field(default_factory=Counter)
    """Faults by kind."""
    told: list[Recovery] = field(default_factory=list)
    """The recoveries that readers saw."""
    measured: list[Recovery] = field(default_factory=list)
    """Those of readers that were elsewhere when it happened."""
    taken_over: list[Watch] = field(default_factory=list)
    """How those were seen."""
    answered: dict[str, list[float]] = field(default_factory=dict)
    """By kind, how many seconds after the return of a server each waiting write was answered."""


class Watching:
    def __init__(
        self,
        checker: Checker,
        record: Record,
        readers: Callable[[], Iterable[Reader]],
        victims: Victims,
        *,
        drain_seconds: float,
    ) -> None:
        self.recovered = Recovered()
        self._checker = checker
        self._record = record
        self._readers = readers
        self._victims = victims
        self._drain_seconds = drain_seconds

    def all_at_work(self, fault: Fault, since: float) -> Iterator[Watch]:
        """Watch every reader of a chat that is being answered."""
        for reader in self._readers():
            if reader.subscriber.status in AT_WORK and not self._victims.may_hang(reader):
                reader.watch = Watch(fault, reader.subscriber, elsewhere=True, since=since)
                yield reader.watch

    def chats_of(self, fault: Fault, victim: Replica) -> Iterator[Watch]:
        """The readers of the victim's chats; while a replica is frozen, those that are known not to hang on it."""
        for reader in self._readers():
            subscriber = reader.subscriber
            if subscriber.worker_id == victim.worker_id and not self._victims.may_hang(reader):
                reader.watch = Watch(fault, subscriber, elsewhere=is_elsewhere(reader, victim))
                yield reader.watch

    async def conclude(self, name: str, watches: Sequence[Watch]) -> None:
        """Wait for what is watched, and have it judged."""
        bound_seconds = BOUND_SECONDS[name]
        with trio.move_on_after(bound_seconds + BOUND_MARGIN_SECONDS):
            for watch in watches:
                await watch.done.wait()
        for reader in self._readers():
            reader.watch = None
        for watch in watches:
            recovery = watch.result(bound_seconds=bound_seconds, drain_seconds=self._drain_seconds)
            self._checker.judge(recovery)
            self._record.note(recovery=asdict(recovery) | {"fault": recovery.fault.kind})
            self.recovered.told.append(recovery)
            if watch.elsewhere:
                self.recovered.measured.append(recovery)
                self.recovered.taken_over.append(watch)

    async def answers(self, name: str, requests: Sequence[Request], back: float) -> None:
        """Wait until all requests are answered that were made before the server's return."""
        bound_seconds = BOUND_SECONDS[name]
        with trio.move_on_at(back + bound_seconds + BOUND_MARGIN_SECONDS):
            while any(request.answered is None for request in requests):  # noqa: ASYNC110 - many, and none hurries
                await trio.sleep(POLL_SECONDS)
        for request in requests:
            seconds = float("inf") if request.answered is None else request.answered - back
            self.recovered.answered.setdefault(name, []).append(seconds)
            if seconds > bound_seconds:
                detail = f"a request to {request.path} was answered {seconds:.2f} s after the return of {name}"
                self._checker.report(Violation(Kind.LATE, "", detail, back, "writer"))

    def is_over(self, fault: Fault, time: float | None = None) -> None:
        """The fault ended then, or just now."""
        until = trio.current_time() if time is None else time
        self._checker.faults[self._checker.faults.index(fault)] = replace(fault, until=until)
        seconds = {"time": self._record.seconds(fault.time), "until": self._record.seconds(until)}
        self._record.note(fault=asdict(fault) | seconds)
