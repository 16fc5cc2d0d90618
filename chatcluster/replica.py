"""A replica's work: incarnations, claiming, running, draining.

Nesting is the order of shutdown: **lease ⊃ runners ⊃ intake**.

* *Intake* claims chats. It ends first, at the drain.
* *Runners* work on what was claimed. At the drain each ends at its next step boundary and gives its chat
  back; those that are not done after ``drain_seconds`` are cancelled, and give theirs back at once.
* The *lease* is renewed until the last runner is gone, and then let go.

An **incarnation** is one lease under one worker ID. If it is lost, all its runners end without a word,
and the next incarnation starts under a new ID; the process, its HTTP server and its readers stay.

Claim and start are one step that cancellation cannot split. A chat that a message wakes here may be claimed by that
message itself (``offers.py``). What happens to a chat between its claim and its return is
in ``tenures.py`` and ``runner.py``.

Wake-ups for the claimer: a commit in this process, a hint from another replica, a burial, a runner that
ended, and a jittered poll as the safety net, which is short while a suspect keeps others like it waiting (see
``Store.claim``). Chats to be interrupted are claimed even when full.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from uuid import UUID, uuid4

import msgspec
import trio

from chatcluster import __version__, telemetry
from chatcluster.byte_places import BytePlaces
from chatcluster.config import Settings
from chatcluster.deadlines import sweep
from chatcluster.errors import LeaseLost, StoreUnavailable, errors_in
from chatcluster.heartbeat import Lease, hold_lease
from chatcluster.histories import LONG_HISTORIES_BYTES, History, bytes_max_of
from chatcluster.notices import Notices
from chatcluster.ports import RUNNABLE_CHANNEL, Claimed, Outside, Renewal
from chatcluster.ports import Replica as ReplicaRow
from chatcluster.ports.claim_rules import SUSPECTED_TAKEOVERS, alone_seconds
from chatcluster.publisher import Publisher
from chatcluster.tenures import Tenures

STORE_RETRY_SECONDS = 0.2
INCARNATION_RETRY_SECONDS = 0.2
ALONE_SECONDS_MIN = alone_seconds(SUSPECTED_TAKEOVERS + 1)


class Replica:
    """One process's share of the work. ``run`` returns when a drain is complete."""

    def __init__(
        self,
        *,
        name: str,
        address: str,
        settings: Settings,
        outside: Outside,
        publisher: Publisher,
        notices: Notices,
        on_incarnation: Callable[[UUID], None] = lambda _: None,
        on_drain_asked: Callable[[], None] | None = None,
    ) -> None:
        """``on_drain_asked`` is called with each renewal that says that an administrator wants it, until it drains."""
        self._on_drain_asked = on_drain_asked or self.drain
        self._row = ReplicaRow(uuid4(), name, address, __version__, settings.replica.slots)
        self._settings = settings
        self._outside = outside
        self._publisher = publisher
        self._notices = notices
        self._on_incarnation = on_incarnation
        # no more than a third is left to others: where chats may be long, a user would have one such history at a time
        left_bytes = min(bytes_max_of(settings), LONG_HISTORIES_BYTES // 3)
        self._places = BytePlaces(LONG_HISTORIES_BYTES, largest=left_bytes)
        self.tenures = self._new_tenures()
        self._replaces: tuple[UUID, ...] = (UUID(settings.replica.replaces),) if settings.replica.replaces else ()
        self._wake = trio.Event()
        self._drain = trio.Event()
        self._joining = trio.CancelScope()
        self._member = False
        """Whether this incarnation got its place in the cluster."""
        self._claiming = False

    def __repr__(self) -> str:
        state = "draining" if self.draining else "claiming" if self._claiming else "idle"
        return f"<Replica {self.worker_id} {state} {self.tenures!r}>"

    @property
    def worker_id(self) -> UUID:
        """The ID of the present incarnation."""
        return self._row.worker_id

    @property
    def draining(self) -> bool:
        return self._drain.is_set()

    @property
    def chats(self) -> int:
        """Chats that this replica works on right now."""
        return len(self.tenures)

    @property
    def free_slots(self) -> int:
        return self.tenures.free_slots

    def drain(self) -> None:
        """Stop claiming, end every runner at its next step boundary, leave the cluster; ``run`` returns then."""
        self._drain.set()
        if not self._member:
            self._joining.cancel()  # there may be no database to join with, for as long as it likes

    # --- incarnations -------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until drained, one incarnation after the other."""
        by_turns = self._settings.replica.user_chats_max > 0  # a claim says whose turn it is
        self._notices.set_claimer(
            self._claim_here,
            lambda chat_id: None if self.draining or by_turns else self.tenures.offers.make(chat_id),
        )
        while not self.draining:
            self._member = False
            try:
                with trio.CancelScope() as self._joining:
                    await self._incarnation()
            except* (LeaseLost, StoreUnavailable) as group:
                reasons = sorted({type(error).__name__ for error in errors_in(group)})
                telemetry.event("replica.incarnation_ended", worker_id=str(self.worker_id), reasons=reasons)
            if not self.draining:
                if self._member:
                    self._replaces = (*self._replaces, self.worker_id)
                self._row = msgspec.structs.replace(self._row, worker_id=uuid4())
                self.tenures = self._new_tenures()
                await trio.sleep(INCARNATION_RETRY_SECONDS)

    async def _incarnation(self) -> None:
        lease = Lease(
            self._row,
            registry=self._outside.registry,
            pubsub=self._outside.pubsub,
            notices=self._notices,
            settings=self._settings,
            on_renewed=self._renewed,
            on_lost=self.tenures.fence,
        )
        async with hold_lease(lease, replaces=self._replaces), trio.open_nursery() as listening:
            self._member, self._replaces = True, ()
            telemetry.event("replica.started", worker_id=str(self.worker_id), name=self._row.name)
            self._on_incarnation(self.worker_id)
            listening.start_soon(self.tenures.follow_hints)
            listening.start_soon(sweep, self._outside.store, self._notices)
            async with trio.open_nursery() as runners:
                runners.start_soon(self.tenures.offers.keep, runners)
                await self._intake(runners)
                lease.draining = True
                lease.beat()
                self.tenures.drain()
                runners.cancel_scope.deadline = trio.current_time() + self._settings.ownership.drain_seconds
            listening.cancel_scope.cancel()

    def _renewed(self, renewal: Renewal, began: float) -> None:
        self.tenures.compare(renewal, began)
        if renewal.drain and not self.draining:
            self._on_drain_asked()

    def _new_tenures(self) -> Tenures:
        return Tenures(
            self.worker_id,
            self._outside,
            publisher=self._publisher,
            notices=self._notices,
            settings=self._settings,
            new_history=lambda: History(self._outside.store, self._places, self._settings, self._outside.windows),
            wake=lambda: self._wake.set(),
        )

    async def _intake(self, runners: trio.Nursery) -> None:
        async with trio.open_nursery() as intake:
            if self._settings.replica.slots > 0:
                intake.start_soon(self._follow_runnable)
                intake.start_soon(self._claim, runners)
            await self._drain.wait()
            intake.cancel_scope.cancel()

    # --- claiming -----------------------------------------------------------------------------

    def _claim_here(self) -> bool:
        """Wake the claimer; whether there is a place for a chat here."""
        if self.draining or not self._claiming:
            return False
        self._wake.set()
        return not self.tenures.is_full

    async def _follow_runnable(self) -> None:
        async with self._outside.pubsub.subscribe(RUNNABLE_CHANNEL) as hints:
            while True:
                await hints.receive()
                self._wake.set()

    async def _claim(self, runners: trio.Nursery) -> None:
        self._claiming = True
        try:
            while True:
                await trio.lowlevel.checkpoint()  # the claim itself cannot be cancelled, and may always find something
                self._wake = trio.Event()
                if not await self._claim_once(runners):
                    with trio.move_on_after(self._claim_pause_seconds):
                        await self._wake.wait()
        finally:
            self._claiming = False

    @property
    def _claim_pause_seconds(self) -> float:
        """Until the next look without a wake-up. None comes for suspects that we were not given yet."""
        poll_seconds = self._settings.replica.claim_poll_seconds * random.uniform(0.75, 1.25)
        return min(poll_seconds, ALONE_SECONDS_MIN) if self.tenures.suspects_wait else poll_seconds

    async def _claim_once(self, runners: trio.Nursery) -> bool:
        """Claim a batch and start its runners; whether there may be more for us to take at once."""
        free_slots, batch = self.tenures.offers.places, self._settings.replica.claim_batch
        try:
            await self.tenures.return_strays()
            claimed = await self._claim_and_start(runners, free_slots, batch)
        except StoreUnavailable as error:
            telemetry.event("claim.failed", error=str(error))
            await trio.sleep(STORE_RETRY_SECONDS)
            return False
        except Exception as error:  # noqa: BLE001 - no row, whatever it says, ends the work on those that we have
            telemetry.event("claim.crashed", error=repr(error), exc_info=error)
            await trio.sleep(STORE_RETRY_SECONDS)
            return False
        if claimed and self.tenures.is_full:
            self._notices.claimable()  # others may have places for what is left
        return len(claimed) >= min(batch, max(free_slots, 1)) and self.free_slots > 0

    async def _claim_and_start(self, runners: trio.Nursery, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        self.tenures.claim_begins(min(free_slots, batch))
        try:
            with trio.move_on_after(self._settings.ownership.self_fence_seconds, shield=True):
                claimed = await self._outside.store.claim(self.worker_id, free_slots=free_slots, batch=batch)
                for chat in claimed:
                    self.tenures.start(chat, runners)
                return claimed
        finally:
            self.tenures.offers.promise(0)
        raise StoreUnavailable("the claim was not answered in time; what it claimed is returned")
