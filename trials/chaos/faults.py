"""What is done to the cluster and to its clients: one entry in one of four tables for each kind.

* A fault of a **replica** chooses a victim that is in the middle of an answer.
* A fault of a **server** hits them all: Postgres or Redis stops, dies, or forgets.
* A fault of **readers** hits clients: some lose their connections, or do not read for a while. All others must
  not notice.
* A **harm** hits one chat, user, row, connection or clock, and nobody else (``harms.py``). ``failover`` is both: it
  hits all, as a fault of a server, and some lose what was said last (``failover.py``).

``BOUND_SECONDS`` is what the promises allow
until every reader is told that its chat goes on: from the fault on, or where a server was away, from its return.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable

import trio

from chaos.fleet import Fleet, Replica
from chaos.harms import HARMS
from chaos.servers import Servers

OUTAGE_SECONDS = (0.0, 4.0)
"""How long a server that crashed is away. One that is restarted is back at once."""


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


async def _restart_postgres(servers: Servers, _: random.Random) -> None:
    assert servers.postgres is not None
    await servers.restart(servers.postgres, crash=False, outage_seconds=0.0)


async def _crash_postgres(servers: Servers, draw: random.Random) -> None:
    assert servers.postgres is not None
    await servers.restart(servers.postgres, crash=True, outage_seconds=draw.uniform(*OUTAGE_SECONDS))


async def _restart_redis(servers: Servers, _: random.Random) -> None:
    assert servers.redis is not None
    await servers.restart(servers.redis, crash=False, outage_seconds=0.0)


async def _crash_redis(servers: Servers, draw: random.Random) -> None:
    assert servers.redis is not None
    await servers.restart(servers.redis, crash=True, outage_seconds=draw.uniform(*OUTAGE_SECONDS))


async def _flush_redis(servers: Servers, _: random.Random) -> None:
    await servers.flush()


REPLICA_FAULTS: dict[str, Callable[[Hand], Awaitable[None]]] = {"kill": _kill, "stop": _stop, "term": _term}
"""Each returns when the fault is over, as do those of servers."""
SERVER_FAULTS: dict[str, Callable[[Servers, random.Random], Awaitable[None]]] = {
    "postgres-restart": _restart_postgres,
    "postgres-crash": _crash_postgres,
    "redis-restart-empty": _restart_redis,
    "redis-crash": _crash_redis,
    "redis-flush": _flush_redis,
}
FAILOVER = "failover"
BOUND_SECONDS = {
    **dict.fromkeys(REPLICA_FAULTS, 6.0),
    "postgres-restart": 5.0,
    "postgres-crash": 5.0,
    "redis-restart-empty": 2.0,
    "redis-crash": 2.0,
    "redis-flush": 2.0,
    "client-drop": 2.0,
    "slow-reader": 2.0,
    **dict.fromkeys(HARMS, 2.0),
    "freeze-connection": 3.0,
    FAILOVER: 5.0,
}
"""A connection that is frozen costs 2 s, and what waited for it comes after that."""
FAULTS = tuple(BOUND_SECONDS)
BOTH = ("postgres", "redis")
NEEDS = {
    **{kind: (kind.partition("-")[0],) for kind in SERVER_FAULTS},
    "garbage": BOTH,
    "freeze-connection": BOTH,
    **dict.fromkeys(("lock", "clock", "huge", FAILOVER), ("postgres",)),
}
"""Which servers of our own a fault needs. The others can be inflicted on any cluster."""
ABOUT = {
    "kill": "a replica dies",
    "stop": "a replica freezes, and wakes",
    "term": "a replica leaves in good order",
    "postgres-restart": "Postgres stops, and is back",
    "postgres-crash": "Postgres is killed, and is back after a while",
    "redis-restart-empty": "Redis stops, and is back with nothing in it",
    "redis-crash": "Redis is killed, and is back after a while with nothing in it",
    "redis-flush": "Redis forgets everything",
    "client-drop": "half of the readers lose their connections",
    "slow-reader": "a reader of a long answer does not read for a while",
    "garbage": "foreign entries, wrong types, impossible epochs, unreadable rows of one chat",
    "lock": "a session holds the row of a chat (of a killed replica, too) or of a replica",
    "freeze-connection": "what a replica has open to Postgres or Redis carries nothing any more",
    "clock": "the database's clock steps, and back",
    "huge": "a chat with 200 MB of history is sent to and read",
    "greedy": "one user at full load: requests, streams, chats, silent connections",
    FAILOVER: "an asynchronous standby takes over from Postgres, without the last transactions",
}
"""For people."""
