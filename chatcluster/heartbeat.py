"""Liveness: the lease of this replica, and burial of the dead.

**Lease.** One row per replica, renewed every ``heartbeat_seconds`` by one statement on a connection of its
own. The same statement returns which chats the database believes are ours, the ring of all replicas, and which database
server took the renewal. A row that is not renewed for ``lease_ttl_seconds`` of an observer's own time is that of a dead
replica (``failure_detector.py``); no wall clock has a say in it.

**Self-fencing.** If the last renewal that succeeded *began* more than ``lease_ttl - lease_margin`` ago by our own
monotonic clock, all work is stopped, before anyone may take it over.

**Session watch.** What tells the death of a process within milliseconds is in ``session_watch.py``.

**Burial.** A replica that finds another one dead deletes the dead one's row, if the proof still holds, and frees the
chats of the dead one in one transaction; then the claimers are woken. Recovery is a claim: there is no other path.
Every replica looks for dead leases at start, every ``sweep_seconds``, jittered, and when one is about to end. A burial
waits for no lock: a chat, or the replica's row, that another session has locked is left to the next look.

What happens on each failure:

* renewal fails, whatever with: tried again soon; after the bound above, ``LeaseLost``;
* somebody holds our row for longer than that: ``LeaseLost`` as well, and the next incarnation has a row of its own. Its
  predecessor's chats are freed, and its row is deleted once it can be;
* our row is gone (somebody buried us): ``LeaseLost``;
* a burial fails: it is tried again for a moment, then by the next look.

``LeaseLost`` ends everything nested in the lease; nothing is written any more, and ``replica.py`` starts a
new incarnation under a new worker ID. Nothing else that goes wrong here does.
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
from chatcluster.failure_detector import FailureDetector
from chatcluster.notices import Notices
from chatcluster.ports import NO_ROW, REPLICAS_CHANNEL, Burial, Chat, Death, Proof, PubSub, Registry, Renewal, Replica
from chatcluster.session_watch import SessionWatch, told

RENEW_RETRY_SECONDS = 0.1
RETIRE_SECONDS_MAX = 2.0
BURIAL_PAUSES_SECONDS = (0.02, 0.04, 0.08, 0.16)
"""A transaction of the dead, or of a user, may hold a row for a moment. After these it is left to the sweep."""


class Lease:
    """One incarnation's place in the cluster. ``hold_lease`` brings it to life and ends it."""

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
        self._trusted_until = 0.0
        self._beat_now = trio.Event()
        self._sessions = SessionWatch(replica.worker_id, registry, self._bury_now)
        self._detector = FailureDetector(
            heartbeat_seconds=settings.ownership.heartbeat_seconds,
            lease_ttl_seconds=settings.ownership.lease_ttl_seconds,
        )
        self._retiring = False

    def __repr__(self) -> str:
        return f"<Lease {self.worker_id} ring={self._sessions.size} trusted for {self.trusted_seconds:.1f} s>"

    @property
    def trusted_seconds(self) -> float:
        """How long we may still act on what we own."""
        return self._trusted_until - trio.current_time()

    def beat(self) -> None:
        """Renew now, and look at the ring again."""
        self._beat_now.set()

    # --- tasks --------------------------------------------------------------------------------

    async def start(self, nursery: trio.Nursery) -> None:
        """Register, with the session locks held first: a row in the registry means that there are locks."""
        await self._sessions.hold(nursery, patience_seconds=self._settings.ownership.lease_ttl_seconds)
        await self._registry.register(self._replica)
        await self._renew()
        self._pubsub.publish(REPLICAS_CHANNEL, b"")
        for task in (
            self._keep_renewing,
            self._fence_ourselves,
            self._follow_ring,
            self._sessions.watch_neighbours,
            self._sweep,
        ):
            nursery.start_soon(task)

    async def _keep_renewing(self) -> None:
        interval = self._settings.ownership.heartbeat_seconds
        while True:
            with trio.move_on_after(interval):
                await self._beat_now.wait()
            self._beat_now = trio.Event()
            try:
                await self._renew()
                interval = self._settings.ownership.heartbeat_seconds
            except LeaseLost:
                if self._retiring:
                    return  # we took it away ourselves
                self._lost("the row is gone")
            except Exception as error:  # noqa: BLE001 - the bound of the lease decides, not what went wrong
                told("lease.renewal_failed", self.worker_id, error)
                interval = RENEW_RETRY_SECONDS

    async def _renew(self) -> None:
        began = trio.current_time()
        renewal = await self._registry.renew(self.worker_id, draining=self.draining)
        self._trusted_until = began + self._settings.ownership.self_fence_seconds
        telemetry.event("lease.renewed", duration_seconds=trio.current_time() - began)
        self._sessions.adopt(renewal, began)
        self._on_renewed(renewal, began)

    async def _fence_ourselves(self) -> None:
        while self.trusted_seconds > 0:  # noqa: ASYNC110 - a deadline that moves, not a condition polled
            await trio.sleep(self.trusted_seconds)
        self._lost("not renewed in time")

    def _lost(self, reason: str) -> None:
        telemetry.event("lease.lost", worker_id=str(self.worker_id), reason=reason)
        self._on_lost()
        raise LeaseLost(f"the lease of worker {self.worker_id} is lost: {reason}")

    async def _follow_ring(self) -> None:
        async with self._pubsub.subscribe(REPLICAS_CHANNEL) as changes:
            while True:
                await changes.receive()
                self.beat()

    # --- the dead -----------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            pause_seconds = self._settings.ownership.sweep_seconds * random.uniform(0.75, 1.25)
            try:
                pause_seconds = min(pause_seconds, await self._bury_silent())
            except Exception as error:  # noqa: BLE001 - looks go on, whatever one of them met
                told("sweep.failed", self.worker_id, error)
            await trio.sleep(pause_seconds)

    async def _bury_silent(self) -> float:
        """Returns in how many seconds the next lease will have ended, if it is not renewed."""
        heartbeats = await self._registry.heartbeats()
        heartbeats.pop(self.worker_id, None)  # about ourselves the lease decides
        for worker_id, silence in self._detector.observe(heartbeats, trio.current_time()).items():
            await self._try_to_bury(worker_id, silence, "lease")
        return self._detector.seconds_to_verdict(trio.current_time())

    async def _bury_now(self, worker_id: UUID, proof: Death | None) -> None:
        """Tries again while rows are locked for a moment. Never raises: what it cannot free is left to the sweep."""
        left: Proof = proof
        seen = "told" if proof is None else "session"
        for pause_seconds in (*BURIAL_PAUSES_SECONDS, None):
            burial = await self._try_to_bury(worker_id, left, seen)
            if burial is None or not burial.left or pause_seconds is None:
                return
            if burial.gone:
                left = NO_ROW
            await trio.sleep(pause_seconds)

    async def _try_to_bury(self, worker_id: UUID, proof: Proof, seen: str) -> Burial | None:
        """What was done, or None if there is nothing to do any more."""
        try:
            burial = await self._registry.bury(worker_id, proof)
        except Exception as error:  # noqa: BLE001 - one that cannot be buried keeps nobody else from it
            told("burial.failed", worker_id, error)
            return Burial(left=1)
        if burial is not None and (burial.gone or burial.freed):
            telemetry.event("replica.buried", worker_id=str(worker_id), proof=seen, chats=len(burial.freed))
            self._tell(burial.freed)
            self.beat()
        return burial

    def _tell(self, orphans: tuple[Chat, ...]) -> None:
        if orphans:
            self._notices.orphaned(orphans)
        self._pubsub.publish(REPLICAS_CHANNEL, b"")

    async def replace(self, worker_id: UUID) -> None:
        """Bury a worker whose process has surely ended: a supervisor saw it, or it was our own last incarnation."""
        await self._bury_now(worker_id, None)

    async def retire(self) -> None:
        """Leave the cluster: delete our row, and free the chats that are still ours."""
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
