"""The claim on a ``MemoryDatabase``: which chats a worker takes, and in which order."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import msgspec

from chatcluster.chat import ChatState, Decision, Status, claimed, claimed_with, may_be_claimed_with
from chatcluster.config import Settings
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import CONTENT_VERSION
from chatcluster.ports import Claimed, Outcome
from chatcluster.ports.claim_rules import SUSPECTED_SECONDS, SUSPECTED_TAKEOVERS, alone_seconds, places_left


class Claims:
    """The part of a replica's store that claims."""

    def __init__(self, database: MemoryDatabase, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._last_owner = UUID(int=0)
        """The user whose turn it was in the last claim."""

    def _claim(self, worker_id: UUID, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        if worker_id not in self._database.replicas:
            return ()
        interrupting = [row for row in self._claimable(Status.INTERRUPTING) if not _is_suspect(row)][:batch]
        places = max(0, min(free_slots, batch - len(interrupting)))
        suspected = self._suspected(worker_id, with_running=places > 0)
        dealt = self._by_turns(worker_id, free_slots)
        running = dealt[: places - sum(row.state.status is Status.RUNNING for row in suspected)]
        if running:
            self._last_owner = running[-1].owner_id
        return tuple(self._take(row, worker_id) for row in (*interrupting, *suspected, *running))

    def _suspected(self, worker_id: UUID, *, with_running: bool) -> list[ChatRow]:
        """The suspect that waits longest, if the worker took none lately. A suspect may be what ended its owners."""
        if any(self._is_alone(row) for row in self._database.owned_by(worker_id)):
            return []
        statuses = (Status.INTERRUPTING, Status.RUNNING) if with_running else (Status.INTERRUPTING,)
        return [row for row in self._claimable(*statuses) if _is_suspect(row)][:1]

    def _is_alone(self, row: ChatRow) -> bool:
        """Whether the chat has its owner for itself still, as far as suspects go."""
        seconds = (self._database.now() - row.updated_at).total_seconds()
        is_now = -SUSPECTED_SECONDS <= seconds < alone_seconds(row.state.takeovers)
        return row.state.takeovers > SUSPECTED_TAKEOVERS and is_now

    def _by_turns(self, worker_id: UUID, free_slots: int) -> list[ChatRow]:
        """Round by round the chats of each owner, the oldest first, beginning with the owner after the last one."""
        held = Counter(row.owner_id for row in self._database.owned_by(worker_id) if row.state.status is Status.RUNNING)
        waiting = [row for row in self._claimable(Status.RUNNING) if not _is_suspect(row)]
        rounds: Counter[UUID] = Counter()
        turns: list[tuple[int, bool, UUID, int, ChatRow]] = []
        for row in waiting:
            rounds[row.owner_id] += 1
            is_shared = rounds[row.owner_id] <= places_left(free_slots, held[row.owner_id])
            if is_shared and self._may_run(row.owner_id, rounds[row.owner_id]):
                turns.append((rounds[row.owner_id], row.owner_id <= self._last_owner, row.owner_id, len(turns), row))
        return [row for *_, row in sorted(turns, key=lambda turn: turn[:4])]

    def _may_run(self, owner_id: UUID, more: int) -> bool:
        """Whether the owner may have so many more running chats."""
        chats_max = self._settings.replica.user_chats_max
        busy = [row for row in self._database.chats.values() if row.owner_id == owner_id and row.state.worker_id]
        return not chats_max or sum(row.state.status is Status.RUNNING for row in busy) + more <= chats_max

    def _claimable(self, *statuses: Status) -> list[ChatRow]:
        """The chats in these statuses that wait for an owner, the oldest first."""
        waiting = [
            (row.claimable_since, serial, row)
            for serial, row in enumerate(self._database.chats.values())
            if row.claimable_since is not None and row.state.status in statuses
            if row.state.content_version <= CONTENT_VERSION
        ]
        return [row for *_, row in sorted(waiting, key=lambda one: one[:2])]

    def _take(self, row: ChatRow, worker_id: UUID) -> Claimed:
        waited_seconds = 0.0 if row.claimable_since is None else max(0.0, self._database.clock() - row.claimable_since)
        self._database.change(row, claimed(self._database.found(row), worker_id))
        self._database.log_claimed(row, worker_id)
        retry_seconds = 0.0 if row.retry_at is None else max(0.0, row.retry_at - self._database.clock())
        return Claimed(self._database.view(row), retry_seconds, self._database.told(row), waited_seconds)

    # with the transition that lets the chat run

    def _with_claim(self, before: ChatState | None, decision: Decision, worker_id: UUID | None) -> Decision:
        """The decision, and the claim of its chat where that may go with it."""
        if worker_id is None or not may_be_claimed_with(before, decision.state) or not self._has_turn(worker_id):
            return decision
        return msgspec.structs.replace(decision, state=claimed_with(decision.state, worker_id))

    def _has_turn(self, worker_id: UUID) -> bool:
        """Whether a worker may take up another chat at once: as no chat waits, no user's turn is skipped."""
        lives = worker_id in self._database.replicas and worker_id not in self._database.locked_rows
        waits = self._settings.replica.user_chats_max or self._claimable(Status.RUNNING, Status.INTERRUPTING)
        return lives and not waits

    def _as_claimed(self, row: ChatRow, outcome: Outcome) -> Outcome:
        """The outcome of a decision that the claim went with."""
        return msgspec.structs.replace(outcome, claimed=Claimed(outcome.chat, prompts=self._database.told(row)))


def _is_suspect(row: ChatRow) -> bool:
    return row.state.takeovers >= SUSPECTED_TAKEOVERS
