"""The tenures of one incarnation: which chats this replica works on, and what it hears of them.

A tenure begins with a claim (``start``), or with a message that claimed its chat (``offers.py``), and ends with its
runner. What the database says of our chats comes from two sides: hints, which others send to this worker, and
heartbeats, which return all that the database believes is ours (``compare``). Either makes a runner look; neither is
believed without a look.

A chat that the database says is ours while nobody here runs it (the claim's answer was lost on the way) is a
**stray**. It is given back after two heartbeats: by then the answer of a claim is no longer on its way. One that a
message may have claimed is none while the answer to that is awaited.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.chat import Fence, Release
from chatcluster.config import Settings
from chatcluster.errors import Fenced, Moved, StoreFailed, StoreUnavailable
from chatcluster.held_chat import HeldChat
from chatcluster.histories import History
from chatcluster.notices import Notices, hint_in
from chatcluster.offers import Offers
from chatcluster.ports import Claimed, Outside, OwnedChat, Renewal, worker_channel
from chatcluster.ports.claim_rules import SUSPECTED_SECONDS, SUSPECTED_TAKEOVERS, kept_places
from chatcluster.publisher import Publisher
from chatcluster.runner import Runner


class Tenures:
    """``wake`` is called when there may be something to claim, or to give back."""

    def __init__(
        self,
        worker_id: UUID,
        outside: Outside,
        *,
        publisher: Publisher,
        notices: Notices,
        settings: Settings,
        new_history: Callable[[], History],
        wake: Callable[[], None],
    ) -> None:
        self._worker_id = worker_id
        self._outside = outside
        self._publisher = publisher
        self._notices = notices
        self._settings = settings
        self._new_history = new_history
        self._wake = wake
        self._runners: dict[UUID, Runner] = {}
        self._started_at: dict[UUID, float] = {}
        self._hinted: dict[UUID, int] = {}
        """Hints since the last claim began, of chats that nobody runs here: its answer may still be on its way."""
        self._strays: dict[UUID, OwnedChat] = {}
        self._returning: list[OwnedChat] = []
        self._draining = False
        self.offers = Offers(
            worker_id,
            good_seconds=settings.ownership.self_fence_seconds,
            free_slots=lambda: self.free_slots,
            kept=kept_places(settings.replica.slots),
            begin=self.start,
            wake=wake,
        )

    def __repr__(self) -> str:
        return f"<Tenures {len(self)}/{self._settings.replica.slots} of {self._worker_id}>"

    def __len__(self) -> int:
        return len(self._runners)

    @property
    def free_slots(self) -> int:
        return max(0, self._settings.replica.slots - len(self._runners))

    @property
    def is_full(self) -> bool:
        """Whether there may be no place here for a chat of somebody who has many."""
        return self.free_slots <= kept_places(self._settings.replica.slots)

    @property
    def suspects_wait(self) -> bool:
        """Whether a suspect has begun here so lately that we are not given another one."""
        since = trio.current_time() - SUSPECTED_SECONDS
        return any(
            runner.chat.takeovers > SUSPECTED_TAKEOVERS and self._started_at[chat_id] >= since
            for chat_id, runner in self._runners.items()
        )

    def runner(self, chat_id: UUID) -> Runner | None:
        """The one that works on the chat here."""
        return self._runners.get(chat_id)

    # --- begin and end ------------------------------------------------------------------------

    def claim_begins(self, places: int) -> None:
        """From now on hints of unknown chats are kept: they may be of what is being claimed. It may fill ``places``."""
        self._hinted = {chat_id: version for chat_id, version in self._hinted.items() if self.offers.is_out_to(chat_id)}
        self.offers.promise(places)

    def start(self, claimed: Claimed, runners: trio.Nursery) -> None:
        history = self._new_history()
        held = HeldChat(
            claimed.chat, self._worker_id, history, self._outside, publisher=self._publisher, notices=self._notices
        )
        history.prompts = claimed.prompts
        runner = Runner(
            held,
            self._outside,
            self._settings,
            retry_seconds=claimed.wait_seconds,
            is_full=lambda: self.is_full,
        )
        if stale := self._runners.get(claimed.chat.id):
            stale.fenced()  # that its chat could be claimed proves that its tenure is over
        self._runners[claimed.chat.id] = runner
        self._started_at[claimed.chat.id] = trio.current_time()
        self.offers.tenure_began(claimed.chat)
        runner.told(self._hinted.get(claimed.chat.id, 0))
        if self._draining:
            runner.drain()
        runners.start_soon(self._run, runner)
        telemetry.event("stage.ended", stage="queue_wait", duration_seconds=claimed.waited_seconds)
        telemetry.event("chat.claimed", chat_id=str(claimed.chat.id), epoch=claimed.chat.epoch)
        if claimed.chat.takeovers > 1:
            telemetry.event("chat.taken_over", chat_id=str(claimed.chat.id), epoch=claimed.chat.epoch)

    async def _run(self, runner: Runner) -> None:
        chat_id = runner.chat.id
        was_full = False
        try:
            await runner.run()
        except* Exception as group:  # noqa: BLE001 - the heartbeat gives back what a broken runner leaves
            telemetry.event("runner.crashed", chat_id=str(chat_id), error=repr(group), exc_info=group)
        finally:
            was_full = self.is_full
            if self._runners.get(chat_id) is runner:
                del self._runners[chat_id]
                del self._started_at[chat_id]
        if was_full or self._settings.replica.user_chats_max:
            self._wake()

    def drain(self) -> None:
        """Each ends at its next step boundary."""
        self._draining = True
        self.offers.end()
        for runner in self._runners.values():
            runner.drain()

    def fence(self) -> None:
        """The lease is lost: all end at once, without a word."""
        self.offers.close()
        for runner in self._runners.values():
            runner.fenced()

    # --- what the database says about our chats -----------------------------------------------

    async def follow_hints(self) -> None:
        """Hints that somebody changed chats that we own."""
        async with self._outside.pubsub.subscribe(worker_channel(self._worker_id)) as hints:
            while True:
                hint = hint_in(await hints.receive())
                if hint is None:
                    for runner in self._runners.values():
                        runner.look()
                    self._publisher.regained()
                elif owner := self._runners.get(hint.chat_id):
                    owner.told(hint.snapshot_version)
                else:
                    self._hinted[hint.chat_id] = hint.snapshot_version

    def compare(self, renewal: Renewal, began: float) -> None:
        """Tell runners what a heartbeat found; a chat claimed after it began is not its business."""
        self.offers.trust(began)
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
        self._strays = {chat_id: chat for chat_id, chat in owned.items() if not self._has(chat_id)}
        self._returning = [chat for chat in self._strays.values() if _seen_before(chat, known)]
        if self._returning:
            self._wake()

    def _has(self, chat_id: UUID) -> bool:
        """Whether the chat is worked on here, or is about to be."""
        return chat_id in self._runners or self.offers.is_out_to(chat_id)

    async def return_strays(self) -> None:
        """Give back chats that are ours in the database alone."""
        while self._returning:
            stray = self._returning.pop()
            if self._has(stray.chat_id):
                continue
            fence = Fence(stray.chat_id, self._worker_id, stray.epoch, stray.history_version)
            try:
                outcome = await self._outside.store.commit(fence, Release())
            except (Fenced, Moved):
                continue  # somebody else has it, or the next heartbeat shows it again
            except Exception as error:
                if isinstance(error, StoreUnavailable) and not isinstance(error, StoreFailed):
                    raise
                telemetry.event("chat.unreturnable", chat_id=str(stray.chat_id), error=repr(error), exc_info=error)
                continue
            telemetry.event("chat.returned", chat_id=str(stray.chat_id), epoch=stray.epoch)
            self._notices.committed(outcome.chat, "status", by_owner=True)


def _seen_before(chat: OwnedChat, known: dict[UUID, OwnedChat]) -> bool:
    before = known.get(chat.chat_id)
    return before is not None and before.epoch == chat.epoch
