"""The session locks of this replica, and the watch over its neighbours': how a death is known within milliseconds.

Each replica holds ``SESSION_LOCKS`` locks on its worker ID, each on a connection of its own, and waits, on a connection
for each, for the locks of the next two in the ring. The server releases the locks of a killed process at once, so its
death is known in milliseconds: also if the process next to it, which watched it, died or froze with it. What counts as
proof, and what does not, is said in ``postgres/session_locks.py``.

**After a failover the locks move with the heartbeats.** Each renewal says which server took it. A lock that is held on
another one is let go of and taken anew, and every watch begins anew: on an old primary that still answers reads neither
would ever end by itself. A lock that was taken after the renewal began stays: its answer may be late, and of a server
that is no more, and locks that are let go of together look like a death.

**Locks are taken one after the other.** The answer to one that is taken may be lost, and then it is let go of again. If
that befell all of them at once, as it could after a failover, it would look like a death as well.

What happens on each failure:

* a lock session breaks: the lock is taken again. A watcher sees that the other one is still held, and waits on;
* all of them are lost without a word: they are taken from the old connections one after the other, before the server
  drops those together;
* a watch session breaks: a new one starts from the beginning; the other watcher and the lease serve meanwhile;
* the database is away, or full: both are tried again, a watch at longer intervals. The lease alone serves until then;
* anything that nobody thought of ends one try, is told, and is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.errors import StoreUnavailable
from chatcluster.ports import SESSION_LOCKS, Death, Registry, Renewal, SessionLock

SESSION_RETRY_SECONDS = 0.2
WATCH_RETRY_SECONDS_MAX = 1.0
WATCHED_MAX = 2
"""So many neighbours on the ring are watched: as many may die at once, and each death is known at once."""


class SessionWatch:
    """``bury`` is called with each death that is proven; it brings the burial to its end, and never raises."""

    def __init__(self, worker_id: UUID, registry: Registry, bury: Callable[[UUID, Death], Awaitable[None]]) -> None:
        self._worker_id = worker_id
        self._registry = registry
        self._bury = bury
        self._ring: tuple[UUID, ...] = ()
        self._server: str | None = None
        self._ring_changed = trio.Event()
        self._held: dict[int, _Holding] = {}
        self._taken = [trio.Event() for _ in range(SESSION_LOCKS)]
        self._taking = trio.Lock()
        self._watches: dict[UUID, trio.CancelScope] = {}

    def __repr__(self) -> str:
        return f"<SessionWatch {self._worker_id} holds {len(self._held)}, watches {len(self._watches)}>"

    @property
    def size(self) -> int:
        """Workers in the ring."""
        return len(self._ring)

    def adopt(self, renewal: Renewal, began: float) -> None:
        """Take over what a renewal says that ``began`` then: who is in the ring, and where heartbeats go."""
        if renewal.ring != self._ring:
            self._ring = renewal.ring
            self._ring_changed.set()
        for holding in self._held.values():
            if holding.lock.server not in ("", renewal.server) and holding.since < began:
                holding.scope.cancel()
        if self._server not in (None, renewal.server):
            for watching in self._watches.values():
                watching.cancel()
        self._server = renewal.server

    # --- our locks ----------------------------------------------------------------------------

    async def hold(self, nursery: trio.Nursery, *, patience_seconds: float) -> None:
        """Take all locks and keep them in the background. Raises ``StoreUnavailable`` if that takes too long."""
        for lock in range(SESSION_LOCKS):
            nursery.start_soon(self._keep, lock)
        with trio.move_on_after(patience_seconds):
            for taken in self._taken:
                await taken.wait()
            return
        # A connection that nobody has any more may hold one: not under a new ID.
        raise StoreUnavailable(f"the session locks of worker {self._worker_id} could not be taken")

    async def _keep(self, lock: int) -> None:
        while True:
            try:
                async with AsyncExitStack() as stack:
                    async with self._taking:
                        held = await stack.enter_async_context(self._registry.hold(self._worker_id, lock))
                    self._taken[lock].set()
                    await self._stay(lock, held)
                telemetry.event("session.lost", worker_id=str(self._worker_id), lock=lock)
            except Exception as error:  # noqa: BLE001 - told, and tried again: see above
                told("session.unavailable", self._worker_id, error)
            await trio.sleep(SESSION_RETRY_SECONDS)

    async def _stay(self, lock: int, held: SessionLock) -> None:
        """Until its connection is gone, or heartbeats go to another server."""
        holding = self._held[lock] = _Holding(held)
        try:
            with holding.scope:
                await held.wait_lost()
        finally:
            del self._held[lock]

    # --- the neighbours -----------------------------------------------------------------------

    @property
    def _neighbours(self) -> list[UUID]:
        """Whom we watch: the next workers in the ring, which closes behind the greatest ID."""
        others = sorted(worker for worker in self._ring if worker != self._worker_id)
        nearest_first = sorted(others, key=lambda worker: worker < self._worker_id)
        return nearest_first[:WATCHED_MAX]

    async def watch_neighbours(self) -> None:
        """Have one watch on each neighbour; the neighbours change as replicas come and go."""
        async with trio.open_nursery() as nursery:
            while True:
                self._ring_changed = trio.Event()
                neighbours = self._neighbours
                for worker_id, watching in self._watches.items():
                    if worker_id not in neighbours:
                        watching.cancel()
                for worker_id in neighbours:
                    if worker_id not in self._watches:
                        self._watches[worker_id] = trio.CancelScope()
                        nursery.start_soon(self._watch, worker_id)
                await self._ring_changed.wait()

    async def _watch(self, worker_id: UUID) -> None:
        """Watch a worker until it is dead, or no neighbour any more. A burial is brought to its end in either case,
        because the replicas that take the chats over have to hear of it."""
        death = None
        with self._watches[worker_id]:
            death = await self._await_death(worker_id)
        if death is not None:
            await self._bury(worker_id, death)
            self._ring = tuple(other for other in self._ring if other != worker_id)
        del self._watches[worker_id]
        self._ring_changed.set()  # it is watched anew if the next renewal names it still: it could not be buried

    async def _await_death(self, worker_id: UUID) -> Death:
        backoff = Backoff(SESSION_RETRY_SECONDS, WATCH_RETRY_SECONDS_MAX)
        while True:
            try:
                death = await self._registry.watch(worker_id)
                if death is not None:
                    return death
            except Exception as error:  # noqa: BLE001 - told, and tried again: see above
                told("session.watch_failed", self._worker_id, error)
            await trio.sleep(backoff.next_seconds())


class _Holding:
    def __init__(self, lock: SessionLock) -> None:
        self.lock = lock
        self.since = trio.current_time()
        """A renewal from before may have been taken by a server that is no more."""
        self.scope = trio.CancelScope()


def told(event: str, worker_id: UUID, error: Exception) -> None:
    """An event of something that failed and is tried again; with a traceback where that is no news of the database."""
    unforeseen = {} if isinstance(error, StoreUnavailable) else {"exc_info": error}
    telemetry.event(event, worker_id=str(worker_id), error=str(error) or type(error).__name__, **unforeseen)
