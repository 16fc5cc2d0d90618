"""The adapters of the simulated world, which tell the witness what takes effect, at the moment at which it does.

They are the memory adapters. A harm, such as a held row or a stream that refuses, is done to them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from uuid import UUID

from chatcluster.chat import (
    AnswerQuestions,
    Approve,
    Decision,
    Deny,
    Fence,
    OwnerCommand,
    Status,
    SubmitToolResults,
    UserCommand,
)
from chatcluster.memory import MemoryBroker, MemoryRegistry, MemoryStore, MemoryStreams
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import Frame, FrameKind, Position
from chatcluster.ports import (
    VERSION_MAX,
    Appended,
    Burial,
    Chat,
    ChatRead,
    Claimed,
    HistoryPage,
    Idempotency,
    Outcome,
    Proof,
)
from chatcluster.usage import Spent
from simulation.network import Weather, Wire
from simulation.witness import Witness


class WatchedStore(MemoryStore):
    """Writes may arrive when nobody waits for them any more."""

    def __init__(self, witness: Witness, wire: Wire) -> None:
        super().__init__(witness.database, wire)
        self._witness = witness
        self._harmed = witness.harmed
        self._wire = wire

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
        claimer: UUID | None = None,
    ) -> Outcome:
        def effect() -> Outcome:
            return self._once(owner_id, idempotency) or self._apply(chat_id, command, owner_id, idempotency, claimer)

        return await self._wire.carry("apply", effect)

    def _write(self, row: ChatRow, decision: Decision) -> Outcome:
        before = row.state
        outcome = super()._write(row, decision)
        self._witness.calls.changed(before, row.state, edited=decision.delete is not None)
        return outcome

    def _apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        owner_id: UUID,
        idempotency: Idempotency | None,
        claimer: UUID | None = None,
    ) -> Outcome:
        outcome = super()._apply(chat_id, command, owner_id, idempotency, claimer)
        if isinstance(command, Approve | Deny | SubmitToolResults | AnswerQuestions):
            self._witness.calls.answered(command)
        return outcome

    async def get(self, chat_id: UUID) -> Chat:
        self._harmed.row_asked(chat_id)
        return await super().get(chat_id)

    async def read_newer(
        self,
        chat_id: UUID,
        *,
        after_version: int,
        after_id: int,
        queue_version: int,
        limit: int,
        bytes_max: int,
        turns_after: int = VERSION_MAX,
        if_whole: bool = False,
    ) -> ChatRead:
        self._harmed.row_asked(chat_id)
        return await super().read_newer(
            chat_id,
            after_version=after_version,
            after_id=after_id,
            queue_version=queue_version,
            limit=limit,
            bytes_max=bytes_max,
            turns_after=turns_after,
            if_whole=if_whole,
        )

    async def read_history(
        self, chat_id: UUID, *, after: int, page_bytes: int, message_bytes_max: int, since: int = 0, before: int = 0
    ) -> HistoryPage:
        await self._harmed.history_asked(chat_id)
        return await super().read_history(
            chat_id, after=after, page_bytes=page_bytes, message_bytes_max=message_bytes_max, since=since, before=before
        )

    async def raise_epoch(self, chat_id: UUID, worker_id: UUID, *, epoch: int, above: int) -> Chat:
        await self._harmed.row_written(chat_id)
        return await super().raise_epoch(chat_id, worker_id, epoch=epoch, above=above)

    async def commit(
        self, fence: Fence, command: OwnerCommand, *, known: Chat | None = None, spent: tuple[Spent, ...] = ()
    ) -> Outcome:
        await self._harmed.row_written(fence.chat_id)
        return await self._wire.carry("commit", partial(self._commit, fence, command, spent))

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        return await self._wire.carry("claim", partial(self._claim, worker_id, free_slots, batch))

    def _raise_epoch(self, chat_id: UUID, worker_id: UUID, epoch: int, above: int) -> Chat:
        chat = super()._raise_epoch(chat_id, worker_id, epoch, above)
        self._witness.claims[chat_id, above] = worker_id  # now: a failover may lose it before its answer is there
        return chat

    def _commit(self, fence: Fence, command: OwnerCommand, spent: tuple[Spent, ...]) -> Outcome:
        row = self._database.chats.get(fence.chat_id)
        before = row.state if row is not None else None
        outcome = super()._commit(fence, command, spent)
        assert before is not None
        self._witness.committed(fence, command, before, outcome)
        return outcome

    def _claimable(self, *statuses: Status) -> list[ChatRow]:
        return [row for row in super()._claimable(*statuses) if not self._harmed.is_locked(row.id)]

    def _take(self, row: ChatRow, worker_id: UUID) -> Claimed:
        claimed = super()._take(row, worker_id)
        self._witness.claimed(claimed, worker_id)
        return claimed

    def _as_claimed(self, row: ChatRow, outcome: Outcome) -> Outcome:
        taken = super()._as_claimed(row, outcome)
        if taken.claimed is not None and outcome.chat.worker_id is not None:
            self._witness.claimed(taken.claimed, outcome.chat.worker_id)
        return taken


class WatchedRegistry(MemoryRegistry):
    def __init__(self, witness: Witness, link: Link) -> None:
        super().__init__(witness.database, link)
        self._witness = witness

    def _bury(self, worker_id: UUID, proof: Proof) -> Burial | None:
        self._witness.harmed.buried(worker_id)
        burial = super()._bury(worker_id, proof)
        if burial is not None:
            self._witness.buried(worker_id, burial.freed, proof)
        return burial


class WatchedStreams(MemoryStreams):
    """A frame that was added to the stream may not be published."""

    def __init__(self, witness: Witness, broker: MemoryBroker, link: Link, weather: Weather, draw: Random) -> None:
        super().__init__(broker, link)
        self._witness = witness
        self._harmed = witness.harmed
        self._weather = weather
        self._draw = draw

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        self._harmed.stream_asked(chat_id)
        self._witness.opens(chat_id, frame)
        await super().open(chat_id, frame, trim=trim)

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        self._harmed.stream_asked(chat_id)
        await super().restore(chat_id, frames)

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        self._harmed.stream_asked(chat_id)
        return await super().read(chat_id, after=after, limit=limit)

    def _publish(self, chat_id: UUID, frame: Frame) -> None:
        if frame.kind is FrameKind.OPEN or self._draw.random() >= self._weather.live_lost:
            super()._publish(chat_id, frame)

    def _append(self, chat_id: UUID, frame: Frame) -> Appended:
        if chat_id in self._harmed.refused:
            return Appended.MISSING
        row = self._broker.stream(chat_id)
        before = None if row is None else row.last
        appended = super()._append(chat_id, frame)
        if appended is Appended.ADDED and before is not None:
            self._witness.framed(chat_id, frame, before)
        return appended
