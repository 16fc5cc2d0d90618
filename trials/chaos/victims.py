"""Which replica a fault hits: one in the middle of an answer, with a reader that the fault does not hit as well.

A reader **witnesses** a fault if it is in the middle of an answer and attached to a replica that stays awake. Without a
witness a fault would not be timed at all: while another replica is frozen, all readers of a victim's chats
may hang on that one. So a fault waits until there is a witness; at the latest the end of the freeze brings one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import trio

from chaos.fleet import Fleet, Replica
from chaos.options import Options
from chaos.reader import Reader

WITNESS_SECONDS_MAX = 30.0
"""How long is waited for one, beyond what a freeze takes."""
OLDEST_SECONDS_MAX = 5.0
"""How long the next one of a rolling restart is waited for to be in the middle of an answer."""
POLL_SECONDS = 0.05


class NobodyLooks(RuntimeError):
    """The run cannot go on: what it would do next could not be timed."""

    def __str__(self) -> str:
        return "no chat is in the middle of an answer with a reader that could tell of a fault"


class Victims:
    """``frozen`` has the addresses of the replicas that are stopped."""

    def __init__(
        self, options: Options, fleet: Fleet, readers: Callable[[], Iterable[Reader]], draw: random.Random
    ) -> None:
        self.frozen: set[str] = set()
        self._fleet = fleet
        self._readers = readers
        self._draw = draw
        self._front_only = options.front_only
        self._seconds_max = WITNESS_SECONDS_MAX + options.faults.stop_seconds[1]

    async def choose(self) -> tuple[Replica, int]:
        """A replica whose fault has a witness, and its process. Raises ``NobodyLooks`` if there comes to be none."""
        with trio.move_on_after(self._seconds_max):
            while True:
                victim = await self.witnessed()
                pid = await self._fleet.process(victim)
                if self.has_witness(victim):  # who may have left meanwhile
                    return victim, pid
        raise NobodyLooks

    async def witnessed(self) -> Replica:
        """Wait for a replica whose fault has a witness. Raises ``NobodyLooks`` if there comes to be none."""
        with trio.move_on_after(self._seconds_max):
            while True:
                owners = [replica for replica in self._fleet.replicas if self.has_witness(replica)]
                if owners:
                    return self._draw.choice(owners)
                await trio.sleep(POLL_SECONDS)
        raise NobodyLooks

    async def oldest(self) -> tuple[Replica, int]:
        """The replica that was started first: the next one of a rolling restart. It may have nothing to do for long."""
        victim = min(self._fleet.replicas, key=lambda replica: replica.started_at)
        with trio.move_on_after(OLDEST_SECONDS_MAX):
            while not self.has_witness(victim):  # noqa: ASYNC110 - many readers can bring it about
                await trio.sleep(POLL_SECONDS)
        return victim, await self._fleet.process(victim)

    def has_witness(self, victim: Replica) -> bool:
        return any(self._witnesses(reader, victim) for reader in self._readers())

    def _witnesses(self, reader: Reader, victim: Replica) -> bool:
        """Where all know the public port alone, nobody is known to be elsewhere: there any reader has to do."""
        subscriber = reader.subscriber
        if not subscriber.streaming or subscriber.worker_id != victim.worker_id or self.may_hang(reader):
            return False
        return self._front_only or is_elsewhere(reader, victim)

    def may_hang(self, reader: Reader) -> bool:
        """On a replica that is frozen."""
        place = reader.place.replica
        return bool(self.frozen) and (place is None or place.address in self.frozen)


def is_elsewhere(reader: Reader, victim: Replica) -> bool:
    """Known to be attached to another replica. By its address: the worker ID it knows may be an older one's."""
    place = reader.place.replica
    return place is not None and place.address != victim.address
