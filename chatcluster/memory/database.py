"""The state of one 'Postgres' in this process; see the package's docstring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import msgspec
import trio

from chatcluster.chat import TAKEN_OVER, ChatState, Status, continued, disowned, stored_of
from chatcluster.errors import ChatNotFound
from chatcluster.memory.tables import (
    ChatRow,
    Kept,
    Kinship,
    McpTables,
    ModelTables,
    ReplicaRow,
    TokenRow,
    UsageKey,
    UsageRow,
)
from chatcluster.ports import SESSION_LOCKS, Account, Booking, Chat
from chatcluster.ports.administration import AuditEntry, Deed, Takeover
from chatcluster.ports.prompts import DEPLOYMENT, ToldPrompts
from chatcluster.usage import Bill, Spent, SpentOutcome, bill_of

ZERO_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""The date at which the clock reads 0."""


def _lost(state: ChatState) -> Booking:
    """The attempt that was under way, or may have been, when the chat's owner died."""
    if (
        state.status not in (Status.RUNNING, Status.INTERRUPTING)
        or not state.attempt
        or state.retry
        or state.open_calls
    ):
        return ()
    return (Spent(state.history_version, state.attempt, state.epoch, SpentOutcome.LOST),)


class HeldLock:
    """One lock of a worker on a server: the session that holds it, and the sessions that wait for it."""

    def __init__(self, server: str = "") -> None:
        self.server = server
        self.released = trio.Event()
        self.lost = trio.Event()

    async def wait_lost(self) -> None:
        await self.lost.wait()


LockKey = tuple[UUID, int]
"""A worker, and which of its session locks."""


class MemoryDatabase:
    """All tables, shared by the adapters of all replicas. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.clock = clock
        self.chats: dict[UUID, ChatRow] = {}
        self.kept = Kept()
        self.replicas: dict[UUID, ReplicaRow] = {}
        self.accounts: dict[UUID, Account] = {}
        self.tokens: dict[str, TokenRow] = {}
        self.mcp = McpTables()
        self.model_tables = ModelTables()
        self.locks: dict[LockKey, HeldLock] = {}
        self.locked_rows: set[UUID] = set()
        """Chats and workers whose rows are locked by another transaction: a burial passes them over."""
        self.sessions_restarted = trio.Event()
        self.ids = count(1)
        """IDs of messages and of queued messages: ascending in the order of their insertion."""
        self.timeline: int | None = 1
        """The timeline of the WAL. None: the server does not tell."""
        self._serials = count(1)
        """Serial numbers of renewals, and of starts of the server."""
        self.server = self._start()

    def __repr__(self) -> str:
        return f"<MemoryDatabase {len(self.chats)} chats, {len(self.replicas)} replicas, {len(self.locks)} locks>"

    # time

    def now(self) -> datetime:
        return self.date(self.clock())

    def seconds_to(self, moment: datetime | None) -> float | None:
        return None if moment is None else (moment - self.now()).total_seconds()

    def date(self, seconds: float) -> datetime:
        return ZERO_TIME + timedelta(seconds=seconds)

    # chats

    def row(self, chat_id: UUID) -> ChatRow:
        """Raises ``ChatNotFound``."""
        try:
            return self.chats[chat_id]
        except KeyError:
            raise ChatNotFound("there is no such chat", chat_id=str(chat_id)) from None

    def view(self, row: ChatRow) -> Chat:
        return Chat(
            **stored_of(row.state),
            id=row.id,
            owner_id=row.owner_id,
            **row.setup.chosen,
            retry_at=None if row.retry_at is None else self.date(row.retry_at),
            created_at=row.created_at,
            updated_at=row.updated_at,
            open_calls=len(row.state.open_calls),
            has_agents=self._has_agents(row.id),
            **_kinship(self.kept.families.kin.get(row.id)),
        )

    def _has_agents(self, chat_id: UUID) -> bool:
        return any(kin.parent_id == chat_id for kin in self.kept.families.kin.values())

    def found(self, row: ChatRow) -> ChatState:
        """The chat as a write of now finds it: after a failover the first one leaps."""
        return continued(row.state, self.timeline)

    def change(self, row: ChatRow, state: ChatState) -> None:
        """Give the chat its new state."""
        if not state.claimable:
            row.claimable_since = None
        elif row.claimable_since is None:
            row.claimable_since = self.clock()
        row.state = state
        row.updated_at = self.now()

    def disown(self, rows: Iterable[ChatRow], cause: str = TAKEN_OVER, name: str = "") -> tuple[Chat, ...]:
        """Clear the owner of each, of this ``name``, and log it."""
        freed = tuple(rows)
        for row in freed:
            self.log_freed(row, cause, name)
            self.book(row, _lost(row.state))
            self.change(row, disowned(self.found(row), cause))
        return tuple(self.view(row) for row in freed)

    def book(self, row: ChatRow, spent: Booking) -> None:
        """Book attempts; one that is booked already stays as it is."""
        for one in spent:
            key = UsageKey(row.id, one.history_version, one.attempt)
            kin = self.kept.families.kin.get(row.id)
            root_id = None if kin is None else kin.root_id
            self.kept.usage.setdefault(key, UsageRow(row.owner_id, self.now(), one, root_id))

    def bill_of(self, row: ChatRow, *, since: int) -> Bill:
        """The bill of the attempts at this history of the chat, or a later one."""
        booked = self.kept.usage.items()
        return bill_of(one.spent for key, one in booked if key.chat_id == row.id and key.history_version >= since)

    def log_freed(self, row: ChatRow, cause: str, name: str) -> None:
        """Note that a chat loses its owner."""
        assert row.state.worker_id is not None, "it has one"
        log = self.kept.takeovers
        self.kept.freed[row.id] = len(log)
        log.append(Takeover(len(log) + 1, row.id, row.owner_id, cause, row.state.worker_id, name, self.now()))

    def log_claimed(self, row: ChatRow, worker_id: UUID) -> None:
        """Complete the log of takeovers, if the chat had lost its owner: this worker takes it up."""
        index = self.kept.freed.pop(row.id, None)
        if index is None:
            return
        takeover, now = self.kept.takeovers[index], self.now()
        self.kept.takeovers[index] = msgspec.structs.replace(
            takeover,
            to_worker=worker_id,
            to_name=self.name_of(worker_id),
            claimed_at=now,
            gap_ms=max(0, int((now - takeover.freed_at) / timedelta(milliseconds=1))),
        )

    def told(self, row: ChatRow) -> ToldPrompts:
        """What the chat's model is told before the conversation."""
        prompts = self.kept.prompts
        kept = row.calls.prefix[0] if row.calls.prefix else ""
        return ToldPrompts(prompts.get(DEPLOYMENT, ""), prompts.get(row.id), prompts.get(row.owner_id, ""), kept)

    def record(self, by: Account, action: str, target: str, details: dict[str, Any]) -> None:
        """Log what an administrator does."""
        log = self.kept.audit
        log.append(AuditEntry(len(log) + 1, self.now(), by.user_id, by.name, action, target, details))

    def record_deed(self, deed: Deed | None) -> None:
        """``record`` for a deed; None is one that nobody signed in for."""
        if deed is not None:
            self.record(deed.by, deed.action, deed.target, deed.details)

    def note_for_push(self, row: ChatRow, outcome: str) -> None:
        """A turn ended: note the browsers to be told, unless it is an agent's turn."""
        if row.id not in self.kept.families.kin:
            self.kept.browsers.push.note(row.owner_id, row.id, outcome, tokens=self.tokens, now=self.clock())

    def name_of(self, worker_id: UUID) -> str:
        row = self.replicas.get(worker_id)
        return "" if row is None else row.replica.name

    def owned_by(self, worker_id: UUID) -> tuple[ChatRow, ...]:
        return tuple(row for row in self.chats.values() if row.state.worker_id == worker_id)

    # sessions

    def drop_session(self, worker_id: UUID, lock: int) -> None:
        """The connection that holds one of this worker's locks breaks."""
        held = self.locks.pop((worker_id, lock), None)
        if held is not None:
            held.lost.set()
            held.released.set()

    def drop_sessions(self, worker_id: UUID) -> None:
        """The connections that hold this worker's locks are gone, as when its process is killed."""
        for lock in range(SESSION_LOCKS):
            self.drop_session(worker_id, lock)

    def fail_over(self) -> None:
        """Another server takes the writes, on a timeline of its own; sessions stay on the old one, which still answers
        reads."""
        self.server, self.locks = self._start(), {}
        self.timeline = (self.timeline or 0) + 1

    def restart_sessions(self) -> None:
        """Every session is gone, those that hold a lock and those that wait for one, as when the server restarts."""
        self.server = self._start()
        locks, self.locks = self.locks, {}
        for lock in locks.values():
            lock.lost.set()
        self.sessions_restarted.set()
        self.sessions_restarted = trio.Event()

    def next_token(self) -> str:
        """What a renewal leaves in its row."""
        return f"renewal {next(self._serials)}"

    def _start(self) -> str:
        return f"server {next(self._serials)}"


def _kinship(kin: Kinship | None) -> dict[str, Any]:
    return {} if kin is None else kin._asdict()
