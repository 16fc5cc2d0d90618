"""Liveness: the lease of this replica, the session watch over its neighbours, and burial of the dead.

**Lease.** One row per replica, renewed every ``heartbeat_seconds`` by one statement on a connection of its
own. The same statement returns which chats the database believes are ours, and the ring of all
replicas. By the database's clock, a row not renewed for ``lease_ttl_seconds`` is dead.

**Self-fencing.** Local time may only stop us sooner: if the last renewal that succeeded *began* more than
``lease_ttl - lease_margin`` ago by our own clock, all work is stopped before anyone may take it over.

**Session watch.** Each replica holds a session lock on its worker ID and waits, on a connection for each, for
the locks of the next two in the ring. The server releases the lock of a killed process at once, so
its death is known in milliseconds: also if the process next to it, which watched it, died or froze
with it. It is proof only if this very session saw the lock held and then got it; a restart of the
database breaks our session first, and proves nothing.

**Burial.** Whoever finds a replica dead deletes its row, re-checked under the lock, and frees its chats in
one transaction; then the claimers are woken. Recovery is a claim: there is no other path. Everyone
looks for dead leases at start and every ``sweep_seconds``, jittered.

What happens on each failure:

* renewal fails: tried again soon; after the bound above, ``LeaseLost``;
* our row is gone (somebody buried us): ``LeaseLost``;
* our lock session breaks: the lock is taken again; if our row still stands, nothing else happens;
* a watch session breaks: a new one starts from the beginning; the other watcher and the lease serve meanwhile.

``LeaseLost`` ends everything nested in the lease; nothing is written any more, and ``replica.py`` starts a
new incarnation under a new worker ID.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import LeaseLost, StoreUnavailable
from chatcluster.notices import Notices
from chatcluster.ports import REPLICAS_CHANNEL, Chat, PubSub, Registry, Renewal, Replica

RENEW_RETRY_SECONDS = 0.1
SESSION_RETRY_SECONDS = 0.2
RETIRE_SECONDS_MAX = 2.0
WATCHED_MAX = 2
"""As many neighbours on the ring may die at once, and each death is still known at once."""


class Lease:
    """One incarnation's place in the cluster. Made by ``hold_lease``."""

    def __init__(
        self,
        replica: Replica,
        *,
        registry: Registry,
        pubsub: PubSub,
        notices: Notices,
        settings: Settings,
        on_renewed: Callable[[Renewal, float], None],
        on_lost: Callable[[], None],
    ) -> None:
        self.worker_id: UUID = replica.worker_id
        self.draining = False
        self._replica = replica
        self._registry = registry
        self._pubsub = pubsub
        self._notices = notices
        self._settings = settings
        self._on_renewed = on_renewed
        self._on_lost = on_lost
        self._ring: tuple[UUID, ...] = ()
        self._trusted_until = 0.0
        self._beat_now = trio.Event()
        self._ring_changed = trio.Event()
        self._watches: dict[UUID, trio.CancelScope] = {}
        self._session_held = trio.Event()
        self._retiring = False

    def __repr__(self) -> str:
        return f"<Lease {self.worker_id} ring={len(self._ring)} trusted for {self.trusted_seconds:.1f} s>"

    @property
    def trusted_seconds(self) -> float:
        """How long we may still act on what we own."""
        return self._trusted_until - trio.current_time()

    def beat(self) -> None:
        """Renew now, and look at the ring again."""
        self._beat_now.set()

    # --- tasks --------------------------------------------------------------------------------

    async def start(self, nursery: trio.Nursery) -> None:
        """Register, with the session lock held first: a row in the registry means that there is a lock."""
        nursery.start_soon(self._hold_session)
        with trio.move_on_after(self._settings.lease_ttl_seconds):
            await self._session_held.wait()
        if not self._session_held.is_set():  # a connection that nobody has any more may hold it: not under a new ID
            raise StoreUnavailable(f"the session lock of worker {self.worker_id} could not be taken")
        await self._registry.register(self._replica)
        await self._renew()
        self._pubsub.publish(REPLICAS_CHANNEL, b"")
        for task in (
            self._keep_renewing,
            self._fence_ourselves,
            self._follow_ring,
            self._watch_neighbours,
            self._sweep,
        ):
            nursery.start_soon(task)

    async def _keep_renewing(self) -> None:
        interval = self._settings.heartbeat_seconds
        while True:
            with trio.move_on_after(interval):
                await self._beat_now.wait()
            self._beat_now = trio.Event()
            try:
                await self._renew()
                interval = self._settings.heartbeat_seconds
            except StoreUnavailable as error:
                telemetry.event("lease.renewal_failed", worker_id=str(self.worker_id), error=str(error))
                interval = RENEW_RETRY_SECONDS
            except LeaseLost:
                if self._retiring:
                    return  # we took it away ourselves
                self._lost("the row is gone")

    async def _renew(self) -> None:
        began = trio.current_time()
        renewal = await self._registry.renew(self.worker_id, draining=self.draining)
        self._trusted_until = began + self._settings.self_fence_seconds
        telemetry.event("lease.renewed", duration_seconds=trio.current_time() - began)
        self._adopt_ring(renewal.ring)
        self._on_renewed(renewal, began)

    async def _fence_ourselves(self) -> None:
        while self.trusted_seconds > 0:  # noqa: ASYNC110 - a deadline that moves, not a condition polled
            await trio.sleep(self.trusted_seconds)
        self._lost("not renewed in time")

    def _lost(self, reason: str) -> None:
        telemetry.event("lease.lost", worker_id=str(self.worker_id), reason=reason)
        self._on_lost()
        raise LeaseLost(f"the lease of worker {self.worker_id} is lost: {reason}")

    async def _hold_session(self) -> None:
        while True:
            try:
                async with self._registry.hold(self.worker_id) as lock:
                    self._session_held.set()
                    await lock.wait_lost()
                telemetry.event("session.lost", worker_id=str(self.worker_id))
            except StoreUnavailable as error:
                telemetry.event("session.unavailable", worker_id=str(self.worker_id), error=str(error))
            await trio.sleep(SESSION_RETRY_SECONDS)

    async def _follow_ring(self) -> None:
        async with self._pubsub.subscribe(REPLICAS_CHANNEL) as changes:
            while True:
                await changes.receive()
                self.beat()

    # --- the neighbours -----------------------------------------------------------------------

    def _adopt_ring(self, ring: tuple[UUID, ...]) -> None:
        if ring != self._ring:
            self._ring = ring
            self._ring_changed.set()

    @property
    def _neighbours(self) -> list[UUID]:
        """Whom we watch: the next workers in the ring, which closes behind the greatest ID."""
        others = sorted(worker for worker in self._ring if worker != self.worker_id)
        nearest_first = sorted(others, key=lambda worker: worker < self.worker_id)
        return nearest_first[:WATCHED_MAX]

    async def _watch_neighbours(self) -> None:
        """Have one watch on each neighbour, whoever they are at the time."""
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
        """Until it is dead, or no neighbour any more. A burial is brought to its end in either case: who is to take
        the chats over has to hear of it."""
        dead = False
        with self._watches[worker_id]:
            dead = await self._is_dead(worker_id)
        if dead:
            await self._bury_now(worker_id)
        del self._watches[worker_id]
        self._ring_changed.set()  # it is watched anew if it should be, as when it could not be buried

    async def _is_dead(self, worker_id: UUID) -> bool:
        """Whether there is proof that it died. Returns False when it is worth looking anew."""
        try:
            if await self._registry.watch(worker_id):
                return True
        except StoreUnavailable as error:
            telemetry.event("watch.unavailable", worker_id=str(self.worker_id), error=str(error))
        await trio.sleep(SESSION_RETRY_SECONDS)
        return False

    # --- the dead -----------------------------------------------------------------------------

    async def _bury_now(self, worker_id: UUID) -> None:
        try:
            await self._bury(worker_id, lease_ttl_seconds=None, proof="session")
        except StoreUnavailable as error:
            telemetry.event("burial.failed", worker_id=str(worker_id), error=str(error))
            await trio.sleep(SESSION_RETRY_SECONDS)

    async def _sweep(self) -> None:
        while True:
            try:
                for worker_id in await self._registry.dead(self._settings.lease_ttl_seconds):
                    await self._bury(worker_id, lease_ttl_seconds=self._settings.lease_ttl_seconds, proof="lease")
            except StoreUnavailable as error:
                telemetry.event("sweep.failed", error=str(error))
            await trio.sleep(self._settings.sweep_seconds * random.uniform(0.75, 1.25))

    async def _bury(self, worker_id: UUID, *, lease_ttl_seconds: float | None, proof: str) -> None:
        orphans = await self._registry.bury(worker_id, lease_ttl_seconds=lease_ttl_seconds)
        if orphans is None:
            return
        telemetry.event("replica.buried", worker_id=str(worker_id), proof=proof, chats=len(orphans))
        self._tell(orphans)
        self.beat()

    def _tell(self, orphans: tuple[Chat, ...]) -> None:
        if orphans:
            self._notices.orphaned(orphans)
        self._pubsub.publish(REPLICAS_CHANNEL, b"")

    async def replace(self, worker_id: UUID) -> None:
        """Bury a worker of which somebody else saw the process die: a supervisor, or our own last incarnation."""
        await self._bury(worker_id, lease_ttl_seconds=None, proof="told")

    async def retire(self) -> None:
        """Leave the cluster: the row goes, and with it whatever is still ours."""
        self._retiring = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + RETIRE_SECONDS_MAX):
            try:
                self._tell(await self._registry.retire(self.worker_id))
            except StoreUnavailable as error:
                telemetry.event("retire.failed", worker_id=str(self.worker_id), error=str(error))


@asynccontextmanager
async def hold_lease(lease: Lease, *, replaces: tuple[UUID, ...] = ()) -> AsyncIterator[Lease]:
    """Be a member of the cluster for the length of the block.

    Raises ``LeaseLost`` (in an exception group) out of the block when membership ends on its own. On any
    other exit the replica leaves properly. ``replaces`` are workers known to be dead.
    """
    async with trio.open_nursery() as nursery:
        await lease.start(nursery)
        for worker_id in replaces:
            await lease.replace(worker_id)
        yield lease
        await lease.retire()
        nursery.cancel_scope.cancel()
