"""A replica's work: incarnations, claiming, running, draining.

Nesting is the order of shutdown: **lease ⊃ runners ⊃ intake**.

* *Intake* claims chats. It ends first, at the drain.
* *Runners* work on what was claimed. At the drain each ends at its next step boundary and gives its chat
  back; those that are not done after ``drain_seconds`` are cancelled, and give theirs back at once.
* The *lease* is renewed until the last runner is gone, and then let go.

An **incarnation** is one lease under one worker ID. If it is lost, all its runners end without a word,
and the next incarnation starts under a new ID; the process, its HTTP server and its readers stay.

Claim and start are one step that cancellation cannot split. A chat that the database says is ours while
nobody here runs it (the claim's answer was lost on the way) is given back after two heartbeats.

Wake-ups for the claimer: a commit in this process, a hint from another replica, a burial, a runner that
ended, and a jittered poll as the safety net. Chats to be interrupted are claimed even when full.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from uuid import UUID, uuid4

import trio

from chatcluster import __version__, telemetry
from chatcluster.chat import Fence, Release
from chatcluster.config import Settings
from chatcluster.errors import Fenced, LeaseLost, Moved, StoreUnavailable
from chatcluster.heartbeat import Lease, hold_lease
from chatcluster.histories import LONG_HISTORIES_BYTES, Places
from chatcluster.notices import Notices, hint_in
from chatcluster.ports import (
    RUNNABLE_CHANNEL,
    Claimed,
    Model,
    OwnedChat,
    PartStreams,
    PubSub,
    Registry,
    Renewal,
    Store,
    worker_channel,
)
from chatcluster.ports import Replica as ReplicaRow
from chatcluster.publisher import Publisher
from chatcluster.runner import Runner

STORE_RETRY_SECONDS = 0.2
INCARNATION_RETRY_SECONDS = 0.2


class Replica:
    """One process's share of the work. ``run`` returns when a drain is complete."""

    def __init__(
        self,
        *,
        name: str,
        address: str,
        settings: Settings,
        store: Store,
        registry: Registry,
        streams: PartStreams,
        pubsub: PubSub,
        publisher: Publisher,
        model: Model,
        notices: Notices,
        on_incarnation: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        self.worker_id: UUID = uuid4()
        self.draining = False
        self._name = name
        self._address = address
        self._settings = settings
        self._store = store
        self._registry = registry
        self._streams = streams
        self._pubsub = pubsub
        self._publisher = publisher
        self._model = model
        self._notices = notices
        self._on_incarnation = on_incarnation
        self._places = Places(LONG_HISTORIES_BYTES)
        self._runners: dict[UUID, Runner] = {}
        self._started_at: dict[UUID, float] = {}
        self._hinted: dict[UUID, int] = {}
        """Hints since the last claim began, of chats that nobody runs here: its answer may still be on its way."""
        self._strays: dict[UUID, OwnedChat] = {}
        self._replaces: tuple[UUID, ...] = (UUID(settings.replaces),) if settings.replaces else ()
        self._returning: list[OwnedChat] = []
        self._wake = trio.Event()
        self._drain = trio.Event()
        self._joining = trio.CancelScope()
        self._member = False
        """Whether this incarnation got its place in the cluster."""
        self._claiming = False

    def __repr__(self) -> str:
        state = "draining" if self.draining else "claiming" if self._claiming else "idle"
        return f"<Replica {self.worker_id} {state} chats={len(self._runners)}/{self._settings.slots}>"

    @property
    def chats(self) -> int:
        """Chats that this replica works on right now."""
        return len(self._runners)

    @property
    def free_slots(self) -> int:
        return max(0, self._settings.slots - len(self._runners))

    def drain(self) -> None:
        """Stop claiming, end every runner at its next step boundary, leave the cluster; ``run`` returns then."""
        self.draining = True
        self._drain.set()
        if not self._member:
            self._joining.cancel()  # there may be no database to join with, for as long as it likes

    # --- incarnations -------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until drained, one incarnation after the other."""
        self._notices.set_claimer(self._claim_here)
        while not self.draining:
            self._member = False
            try:
                with trio.CancelScope() as self._joining:
                    await self._incarnation()
            except* (LeaseLost, StoreUnavailable) as group:
                reasons = sorted({type(error).__name__ for error in _leaves(group)})
                telemetry.event("replica.incarnation_ended", worker_id=str(self.worker_id), reasons=reasons)
            if not self.draining:
                if self._member:
                    self._replaces = (*self._replaces, self.worker_id)
                self.worker_id = uuid4()
                await trio.sleep(INCARNATION_RETRY_SECONDS)

    async def _incarnation(self) -> None:
        lease = Lease(
            self._row(),
            registry=self._registry,
            pubsub=self._pubsub,
            notices=self._notices,
            settings=self._settings,
            on_renewed=self._compare,
            on_lost=self._fence_all,
        )
        try:
            async with hold_lease(lease, replaces=self._replaces), trio.open_nursery() as listening:
                self._member, self._replaces = True, ()
                telemetry.event("replica.started", worker_id=str(self.worker_id), name=self._name)
                self._on_incarnation(self.worker_id)
                listening.start_soon(self._follow_own_chats)
                async with trio.open_nursery() as runners:
                    await self._intake(runners)
                    lease.draining = True
                    lease.beat()
                    for runner in self._runners.values():
                        runner.drain()
                    runners.cancel_scope.deadline = trio.current_time() + self._settings.drain_seconds
                listening.cancel_scope.cancel()
        finally:
            self._runners.clear()
            self._strays.clear()
            self._returning.clear()

    def _row(self) -> ReplicaRow:
        return ReplicaRow(self.worker_id, self._name, self._address, __version__, self._settings.slots)

    async def _intake(self, runners: trio.Nursery) -> None:
        async with trio.open_nursery() as intake:
            if self._settings.slots > 0:
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
        return self.free_slots > 0

    async def _follow_runnable(self) -> None:
        async with self._pubsub.subscribe(RUNNABLE_CHANNEL) as hints:
            while True:
                await hints.receive()
                self._wake.set()

    async def _claim(self, runners: trio.Nursery) -> None:
        self._claiming = True
        try:
            while True:
                self._wake = trio.Event()
                if not await self._claim_once(runners):
                    with trio.move_on_after(self._settings.claim_poll_seconds * random.uniform(0.75, 1.25)):
                        await self._wake.wait()
        finally:
            self._claiming = False

    async def _claim_once(self, runners: trio.Nursery) -> bool:
        """Claim a batch and start its runners; whether there may be more for us to take at once."""
        free_slots, batch = self.free_slots, self._settings.claim_batch
        try:
            await self._return_strays()
            claimed = await self._claim_and_start(runners, free_slots, batch)
        except StoreUnavailable as error:
            telemetry.event("claim.failed", error=str(error))
            await trio.sleep(STORE_RETRY_SECONDS)
            return False
        except Exception as error:  # noqa: BLE001 - no row, whatever it says, ends the work on those that we have
            telemetry.event("claim.crashed", error=repr(error), exc_info=error)
            await trio.sleep(STORE_RETRY_SECONDS)
            return False
        if claimed and self.free_slots == 0:
            self._notices.claimable()  # others may have places for what is left
        return len(claimed) >= min(batch, max(free_slots, 1)) and self.free_slots > 0

    async def _claim_and_start(self, runners: trio.Nursery, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        self._hinted = {}
        with trio.move_on_after(self._settings.self_fence_seconds, shield=True):
            claimed = await self._store.claim(self.worker_id, free_slots=free_slots, batch=batch)
            for chat in claimed:
                self._start(chat, runners)
            return claimed
        raise StoreUnavailable("the claim was not answered in time; what it claimed is returned")

    def _start(self, claimed: Claimed, runners: trio.Nursery) -> None:
        runner = Runner(
            claimed,
            self.worker_id,
            store=self._store,
            streams=self._streams,
            publisher=self._publisher,
            model=self._model,
            notices=self._notices,
            settings=self._settings,
            places=self._places,
        )
        if stale := self._runners.get(claimed.chat.id):
            stale.fenced()  # that its chat could be claimed proves that its tenure is over
        self._runners[claimed.chat.id] = runner
        self._started_at[claimed.chat.id] = trio.current_time()
        runner.told(self._hinted.get(claimed.chat.id, 0))
        runners.start_soon(self._run, runner)
        telemetry.event("chat.claimed", chat_id=str(claimed.chat.id), epoch=claimed.chat.epoch)

    async def _run(self, runner: Runner) -> None:
        chat_id = runner.chat.id
        was_full = False
        try:
            await runner.run()
        except* Exception as group:  # noqa: BLE001 - the heartbeat gives back what a broken runner leaves
            telemetry.event("runner.crashed", chat_id=str(chat_id), error=repr(group), exc_info=group)
        finally:
            was_full = self.free_slots == 0
            if self._runners.get(chat_id) is runner:
                del self._runners[chat_id]
                del self._started_at[chat_id]
        if was_full or self._settings.user_chats_max:
            self._wake.set()

    # --- what the database says about our chats -----------------------------------------------

    async def _follow_own_chats(self) -> None:
        """Hints about chats that we own, from whoever changed them."""
        async with self._pubsub.subscribe(worker_channel(self.worker_id)) as hints:
            while True:
                hint = hint_in(await hints.receive())
                if hint is None:
                    for runner in self._runners.values():
                        runner.look()
                    self._publisher.regained()
                elif runner_of := self._runners.get(hint.chat_id):
                    runner_of.told(hint.snapshot_version)
                else:
                    self._hinted[hint.chat_id] = hint.snapshot_version

    def _compare(self, renewal: Renewal, began: float) -> None:
        """Tell runners what a heartbeat found; a chat claimed after it began is not its business."""
        owned = {chat.chat_id: chat for chat in renewal.owned}
        for chat_id, runner in self._runners.items():
            if self._started_at[chat_id] >= began:
                continue
            chat = owned.get(chat_id)
            if chat is None or chat.epoch != runner.chat.epoch:
                runner.look()
            else:
                runner.told(chat.snapshot_version)
        known = self._strays
        self._strays = {chat_id: chat for chat_id, chat in owned.items() if chat_id not in self._runners}
        self._returning = [chat for chat in self._strays.values() if _seen_before(chat, known)]
        if self._returning:
            self._wake.set()

    async def _return_strays(self) -> None:
        """Give back chats that are ours in the database alone."""
        while self._returning:
            stray = self._returning.pop()
            if stray.chat_id in self._runners:
                continue
            fence = Fence(stray.chat_id, self.worker_id, stray.epoch, stray.history_version)
            try:
                outcome = await self._store.commit(fence, Release())
            except (Fenced, Moved):
                continue  # somebody else has it, or the next heartbeat shows it again
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - one chat that cannot be given back keeps none from being claimed
                telemetry.event("chat.unreturnable", chat_id=str(stray.chat_id), error=repr(error), exc_info=error)
                continue
            telemetry.event("chat.returned", chat_id=str(stray.chat_id), epoch=stray.epoch)
            self._notices.committed(outcome.chat, "status", by_owner=True)

    def _fence_all(self) -> None:
        for runner in self._runners.values():
            runner.fenced()


def _seen_before(chat: OwnedChat, known: dict[UUID, OwnedChat]) -> bool:
    before = known.get(chat.chat_id)
    return before is not None and before.epoch == chat.epoch


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return leaves
