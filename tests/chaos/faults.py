"""What is done to the cluster: one entry in ``FAULTS`` for each kind.

Each fault chooses a victim that is in the middle of an answer, does its worst, and tells what it did. The next one
comes when the cluster is whole again, and after a pause. ``bound_seconds`` is what the promise allows until
every reader is told that its chat goes on.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import trio

from chaos.fleet import Fleet, Replica

Inflict = Callable[["Hand"], Awaitable[None]]


class FaultKind(NamedTuple):
    """``inflict`` returns when the fault is over."""

    inflict: Inflict
    bound_seconds: float


class Hand:
    """Signals one victim. ``began`` hears when the first signal is out."""

    def __init__(
        self, fleet: Fleet, victim: Replica, pid: int, stop_seconds: float, began: Callable[[float], None]
    ) -> None:
        self.victim = victim
        self.stop_seconds = stop_seconds
        self._fleet = fleet
        self._pid = pid
        self._began: Callable[[float], None] | None = began

    async def signal(self, number: signal.Signals) -> None:
        time = await self._fleet.signal(self.victim, self._pid, number)
        if self._began is not None:
            self._began(time)
            self._began = None


async def _kill(hand: Hand) -> None:
    await hand.signal(signal.SIGKILL)


async def _stop(hand: Hand) -> None:
    await hand.signal(signal.SIGSTOP)
    try:
        await trio.sleep(hand.stop_seconds)
    finally:
        with trio.CancelScope(shield=True):  # a signal does not wait
            await hand.signal(signal.SIGCONT)


async def _term(hand: Hand) -> None:
    await hand.signal(signal.SIGTERM)


FAULTS: dict[str, FaultKind] = {
    "kill": FaultKind(_kill, bound_seconds=6.0),
    "stop": FaultKind(_stop, bound_seconds=6.0),
    "term": FaultKind(_term, bound_seconds=6.0),
}


def choose_victim(fleet: Fleet, owners: Sequence[str], draw: random.Random) -> Replica | None:
    """One of ``owners``, the workers whose chats are being answered; None if there is none."""
    replicas = [replica for worker_id in owners if (replica := fleet.owner(worker_id)) is not None]
    return draw.choice(replicas) if replicas else None
