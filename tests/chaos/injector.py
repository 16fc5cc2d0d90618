"""Inflicts the faults, one after the other, and measures how readers fare.

For each fault: wait until some chat is in the middle of an answer, choose its owner, do it, watch the readers of all
the victim's chats until each was told that its chat goes on (or the bound is past), wait until the
cluster is whole again, pause.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

import trio
import trio.lowlevel
from checker import Checker, Fault, Recovery

from chaos.faults import FAULTS, Hand, choose_victim
from chaos.fleet import Fleet, Replica
from chaos.journal import Journal
from chaos.options import Options
from chaos.reader import Reader
from chaos.record import Record
from chaos.recovery import Watch

VICTIM_SECONDS_MAX = 30.0
POLL_SECONDS = 0.05
BOUND_MARGIN_SECONDS = 4.0
"""How long past the bound is waited to learn how late it was."""


class Injector:
    """``told`` are the recoveries of all readers, ``measured`` those that were elsewhere when it happened."""

    def __init__(
        self,
        options: Options,
        fleet: Fleet,
        checker: Checker,
        record: Record,
        readers: Callable[[], Iterable[Reader]],
        journal: Journal | None,
        say: Callable[[str], None],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.told: list[Recovery] = []
        self.measured: list[Recovery] = []
        self.taken_over: list[Watch] = []
        self._options = options
        self._fleet = fleet
        self._checker = checker
        self._record = record
        self._readers = readers
        self._journal = journal
        self._say = say
        self._draw: random.Random = options.draw("faults")

    async def run(self) -> None:
        """All faults of the run. Raises ``RuntimeError`` when the cluster does not become whole again."""
        for number in range(1, self._options.kills + 1):
            kind = self._draw.choice(self._options.faults)
            victim = await self._victim()
            watches = await self._inflict(kind, victim)
            await self._fleet.whole(without=victim.worker_id)
            self._report(number, kind, victim, watches)
            self._check_journal()
            await trio.sleep(self._draw.uniform(*self._options.pause_seconds))

    def _check_journal(self) -> None:
        """Nobody died but those who were killed."""
        if self._journal is not None:
            for violation in self._journal.crashes():
                self._checker.report(violation)

    def _report(self, number: int, kind: str, victim: Replica, watches: list[Watch]) -> None:
        seconds = [watch.takeover_seconds for watch in watches if watch.takeover_seconds is not None]
        took = f"{len(seconds)} taken over in at most {max(seconds):.3f} s" if seconds else "none taken over"
        self._say(f"{number}/{self._options.kills} {kind} {victim.name}: {len(watches)} readers watched, {took}")

    async def _victim(self) -> Replica:
        with trio.move_on_after(VICTIM_SECONDS_MAX):
            while True:
                streaming = [reader.subscriber for reader in self._readers() if reader.subscriber.streaming]
                owners = sorted({subscriber.worker_id for subscriber in streaming if subscriber.worker_id})
                victim = choose_victim(self._fleet, owners, self._draw)
                if victim is not None:
                    return victim
                await trio.sleep(POLL_SECONDS)
        raise RuntimeError("no chat is in the middle of an answer")

    async def _inflict(self, name: str, victim: Replica) -> list[Watch]:
        kind = FAULTS[name]
        fault = Fault(kind=name, time=trio.current_time(), until=float("inf"), **_names(victim))
        watches: list[Watch] = []
        hurt = trio.Event()

        def began(time: float) -> None:
            nonlocal fault
            fault = replace(fault, time=time)
            self._checker.faults.append(fault)
            self._fleet.forget(victim)
            watches.extend(self._watch(fault, victim))
            hurt.set()

        if self._journal is not None:
            self._journal.expect(victim.name, name)
        hand = Hand(self._fleet, victim, await self._fleet.process(victim), self._options.stop_seconds, began)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kind.inflict, hand)
            await hurt.wait()
            await self._conclude(watches, kind.bound_seconds)
        self._checker.faults[self._checker.faults.index(fault)] = replace(fault, until=trio.current_time())
        self.counts[name] += 1
        self._record.note(fault=asdict(fault) | {"time": self._record.seconds(fault.time), "until": None})
        return watches

    def _watch(self, fault: Fault, victim: Replica) -> Iterable[Watch]:
        """The readers of the victim's chats; of a frozen victim, those that are known not to hang on it."""
        for reader in self._readers():
            subscriber, place = reader.subscriber, reader.place.replica
            elsewhere = place is not None and place.address != victim.address  # its worker ID may be an older one
            if subscriber.worker_id == victim.worker_id and (elsewhere or fault.kind != "stop"):
                reader.watch = Watch(fault, subscriber, elsewhere=elsewhere)
                yield reader.watch

    async def _conclude(self, watches: list[Watch], bound_seconds: float) -> None:
        """Wait for what is watched, and have it judged."""
        with trio.move_on_after(bound_seconds + BOUND_MARGIN_SECONDS):
            for watch in watches:
                await watch.done.wait()
        for reader in self._readers():
            reader.watch = None
        for watch in watches:
            recovery = watch.result(bound_seconds=bound_seconds, drain_seconds=self._options.drain_seconds)
            self._checker.judge(recovery)
            self._record.note(recovery=asdict(recovery) | {"fault": recovery.fault.kind})
            self.told.append(recovery)
            if watch.elsewhere:
                self.measured.append(recovery)
                self.taken_over.append(watch)


def _names(victim: Replica) -> dict[str, str]:
    return {"worker_id": victim.worker_id, "replica": victim.name}
