"""The share of this replica: how many connections its pool may have, where Postgres allows fewer than all want.

Without a share the first replica that is busy has what there is, and the next one waits for as long as that lasts.

* **Room** is what Postgres lets all replicas have together: the least of the limits of the role, the database and the
  server, each without the connections that others have of it. It is looked at every ``LOOK_SECONDS``.
* **Replicas** are counted by their rows, with each renewal of the lease. A dead one counts until it is buried. Those
  that log in as another role are others.
* **The share** is the same for all of them. Connections outside of the pool go first: the heartbeat, the session locks,
  and the watches over neighbours. ``FREE`` ones are left for the replica that comes next, which can register with them;
  the others make room then, as soon as they see its row. Where there is little they are left only once each pool has
  ``ENOUGH``: one for requests and chats, and one for the cluster. If somebody has taken some of them, more replicas may
  be on their way than find place there, and each would wait for the others: pools are as if there was one more.
* **The least** that a replica can live on is its heartbeat, its locks and one connection for transactions. Where there
  is no room for more, no watch begins, and deaths are noticed by the lease.

A pool that has more than its share closes what is idle at once, and the rest as it is given back. Nobody is refused for
that: transactions wait for their places. A replica of a version that does not know this takes what it gets, as before.

There is no share behind a transaction pooler, which has limits of its own, nor where the limits cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreFailed, StoreUnavailable
from chatcluster.ports import SESSION_LOCKS
from chatcluster.postgres.connecting import APPLICATION, TRANSACTIONS, Connection
from chatcluster.postgres.places import Lane
from chatcluster.postgres.queries import load_queries

if TYPE_CHECKING:
    from chatcluster.postgres.database import Database

LOOK_SECONDS = 5.0
WATCHES_MAX = 2
"""The neighbours that a replica watches, each on a connection of its own."""
FREE = SESSION_LOCKS + 1
"""What a replica needs to register: the locks, and a transaction."""
ENOUGH = 2
WATCH = "session watch"
HEARTBEAT = f"{APPLICATION} heartbeat"
OURS = (HEARTBEAT, *(f"{APPLICATION} {it}" for it in (TRANSACTIONS, "session lock", WATCH, "question")))
"""The names that the server knows the connections of replicas by."""

SQL = load_queries("connections.sql")


class Room(NamedTuple):
    connections: int
    free: int
    """As many of them are nobody's right now."""
    strangers: int = 0
    """Replicas that log in as another role."""

    def sharing(self, replicas: int) -> int:
        return max(1, replicas - self.strangers)


def share_of(room: Room, replicas: int, *, size: int) -> int:
    """The connections that the pool of each of so many replicas may have, of the ``size`` that it would have."""
    share = _share_of(room, replicas)
    if room.free < FREE:
        share = max(min(share, ENOUGH), _share_of(room, replicas + 1))
    return max(1, min(size, share))


def _share_of(room: Room, replicas: int) -> int:
    with_free, without_free = (_left_for_pool(room, replicas, free=free) for free in (FREE, 0))
    return max(with_free, min(without_free, ENOUGH))


def has_room_for_watches(room: Room, replicas: int) -> bool:
    return _left_for_pool(room, replicas, free=0) >= 1


def _left_for_pool(room: Room, replicas: int, *, free: int) -> int:
    outside = 1 + SESSION_LOCKS + min(replicas - 1, WATCHES_MAX)
    return (room.connections - free) // room.sharing(replicas) - outside


class PoolShare:
    """Tells the database how large its pool may be. It is the whole until both numbers are known."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._room: Room | None = None
        self._replicas = 0
        self._size = database.settings.servers.database_pool_size

    def __repr__(self) -> str:
        return f"<PoolShare {self._size}, {self._replicas} replicas, {self._room}>"

    @property
    def shortage(self) -> str | None:
        """Why the pool is smaller than the settings say, for people; None if it is not."""
        wanted = self._database.settings.servers.database_pool_size
        if self._room is None or self._size == wanted:
            return None
        return (
            f"{self._size} of {wanted} for transactions: Postgres has room for {self._room.connections} connections of"
            f" {self._room.sharing(self._replicas)} replicas"
        )

    def divide(self, replicas: int) -> None:
        """There are so many replicas."""
        if replicas != self._replicas:
            self._replicas = replicas
            self._apply()

    def admits(self, purpose: str) -> bool:
        """Whether to connect for this; not for what all can do without, where others need its place."""
        return purpose != WATCH or self._room is None or has_room_for_watches(self._room, self._replicas)

    async def keep(self) -> None:
        """Look at the room for as long as the replica lives."""
        while not self._database.is_pooled:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Ask how much room there is. What was known stays, if that cannot be told."""
        try:
            self._room = await self._database.autocommit(_look_at_room, lane=Lane.CLUSTER)
        except (StoreUnavailable, StoreFailed) as error:
            telemetry.event("postgres.room_unknown", error=str(error))
        self._apply()

    def _apply(self) -> None:
        if self._room is None or not self._replicas:
            return
        wanted = self._database.settings.servers.database_pool_size
        size = share_of(self._room, self._replicas, size=wanted)
        if size == self._size:
            return
        self._size = size
        self._database.resize(size)
        told = {"connections": size, "wanted": wanted, "room": self._room.connections, "replicas": self._replicas}
        if size < wanted:
            telemetry.event("postgres.short", **told)
        else:
            telemetry.event("postgres.enough", **told)


async def _look_at_room(connection: Connection) -> Room | None:
    row = await connection.fetchrow(SQL["select_room"], OURS, HEARTBEAT)
    return None if row is None else Room(row["connections"], row["connections"] - row["ours"], row["strangers"])
