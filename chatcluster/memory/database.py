"""The state of one 'Postgres' in this process; see the package's docstring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster.chat import TAKEN_OVER, ChatSetup, ChatState, Status, continued, disowned, stored_of
from chatcluster.errors import ChatNotFound
from chatcluster.models import ModelEntry, Provider
from chatcluster.parts import EndedTurn, Message, QueuedMessage
from chatcluster.ports import (
    SESSION_LOCKS,
    Account,
    Chat,
    DeletedChat,
    Grant,
    Login,
    McpServer,
    Outcome,
    Permission,
    Replica,
    Token,
)
from chatcluster.ports.administration import AuditEntry, Takeover
from chatcluster.usage import Bill, Spent, SpentOutcome, bill_of

ZERO_TIME = datetime(2026, 1, 1, tzinfo=UTC)
"""The date at which the clock reads 0."""


class Origin(NamedTuple):
    """Where an owner's messages come from: its tenure, the history that it worked from, and the event."""

    epoch: int
    history_version: int
    event: str


@dataclass(slots=True)
class CallRows:
    """What the ledger has of a chat's calls besides those that are open in its state."""

    known: set[str] = field(default_factory=set)
    deadlines: dict[str, float] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class ChatRow:
    """A chat: its row, its undeleted history by ID, and its queue in ``state``."""

    id: UUID
    owner_id: UUID
    title: str
    model: str | None
    state: ChatState
    created_at: datetime
    updated_at: datetime
    retry_at: float | None = None
    claimable_since: float | None = None
    """The order of the claim: set exactly while the chat waits for an owner."""
    messages: list[Message] = field(default_factory=list)
    turns: list[EndedTurn] = field(default_factory=list)
    queued_at: dict[int, datetime] = field(default_factory=dict)
    commits: dict[Origin, tuple[Message, ...]] = field(default_factory=dict)
    """What each owner's commit inserted."""
    setup: ChatSetup = field(default_factory=ChatSetup)
    calls: CallRows = field(default_factory=CallRows)

    @property
    def queue(self) -> tuple[QueuedMessage, ...]:
        return tuple(
            QueuedMessage(item.id, item.parts, self.queued_at[item.id], item.model, item.steered)
            for item in self.state.queue
        )


@dataclass(slots=True)
class ReplicaRow:
    replica: Replica
    heartbeat_at: float
    token: str
    """Changes with each renewal, as in ``ports.Heartbeat``."""
    session_locks: int = SESSION_LOCKS
    drain_requested: bool = False


@dataclass(slots=True)
class UsedKey:
    """An idempotency key that a request of its owner has used, and what that was answered."""

    request_digest: bytes
    outcome: Outcome


@dataclass(slots=True)
class TokenRow:
    token: Token
    secret_digest: bytes


@dataclass(slots=True)
class LoginRow:
    login: Login
    expires_at: float


@dataclass(slots=True)
class GrantRow:
    grant: Grant
    expires_at: float | None
    refreshing_until: float | None = None


@dataclass(slots=True)
class McpTables:
    servers: dict[UUID, McpServer] = field(default_factory=dict)
    logins: dict[bytes, LoginRow] = field(default_factory=dict)
    """By the digests of their states."""
    grants: dict[tuple[UUID, UUID], GrantRow] = field(default_factory=dict)
    """By server and user."""


@dataclass
class ModelTables:
    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, ModelEntry] = field(default_factory=dict)


@dataclass(slots=True)
class SessionRow:
    token_id: str
    last_used_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class CodeRow:
    token_id: str
    expires_at: datetime


Booking = tuple[Spent, ...]
"""What an owner's commit books, besides what it decides."""


class UsageKey(NamedTuple):
    """What an attempt is known by."""

    chat_id: UUID
    history_version: int
    attempt: int


class UsageRow(NamedTuple):
    owner_id: UUID
    at: datetime
    spent: Spent


@dataclass(slots=True)
class Kept:
    """What is kept besides chats, replicas and accounts: who is signed in, what is allowed, and what happened."""

    keys: dict[tuple[UUID, str], UsedKey] = field(default_factory=dict)
    permissions: dict[UUID, dict[tuple[str, UUID | None], Permission]] = field(default_factory=dict)
    """Of each user, by tool and chat."""
    sessions: dict[bytes, SessionRow] = field(default_factory=dict)
    codes: dict[bytes, CodeRow] = field(default_factory=dict)
    """Both by the digests of their secrets."""
    deleted: list[tuple[datetime, DeletedChat]] = field(default_factory=list)
    """Chats that are gone for good, and since when."""
    takeovers: list[Takeover] = field(default_factory=list)
    freed: dict[UUID, int] = field(default_factory=dict)
    """Where among them the last one of each chat is that nobody has taken up."""
    audit: list[AuditEntry] = field(default_factory=list)
    usage: dict[UsageKey, UsageRow] = field(default_factory=dict)
    """What was spent, in the order of its booking."""


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
    """The session that holds a lock of a worker on a server, and those that wait for it."""

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
        """Chats, and workers, whose rows somebody holds: a burial passes them over."""
        self.sessions_restarted = trio.Event()
        self.ids = count(1)
        """IDs of messages and of queued messages: ascending in the order of their insertion."""
        self.timeline: int | None = 1
        """That of the WAL. None: the server does not tell."""
        self._serials = count(1)
        """Of renewals, and of starts of the server: each has one of its own."""
        self.server = self._start()

    def __repr__(self) -> str:
        return f"<MemoryDatabase {len(self.chats)} chats, {len(self.replicas)} replicas, {len(self.locks)} locks>"

    # time

    def now(self) -> datetime:
        return self.date(self.clock())

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
            title=row.title,
            model=row.model,
            retry_at=None if row.retry_at is None else self.date(row.retry_at),
            created_at=row.created_at,
            updated_at=row.updated_at,
            client_tools=row.setup.client_tools or (),
            mcp_servers=row.setup.mcp_servers or (),
        )

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
        """What is booked already stays as it is."""
        for one in spent:
            key = UsageKey(row.id, one.history_version, one.attempt)
            self.kept.usage.setdefault(key, UsageRow(row.owner_id, self.now(), one))

    def bill_of(self, row: ChatRow, *, since: int) -> Bill:
        """Of the attempts at this history of the chat, or a later one."""
        booked = self.kept.usage.items()
        return bill_of(one.spent for key, one in booked if key.chat_id == row.id and key.history_version >= since)

    def log_freed(self, row: ChatRow, cause: str, name: str) -> None:
        """Note that a chat loses its owner."""
        assert row.state.worker_id is not None, "it has one"
        log = self.kept.takeovers
        self.kept.freed[row.id] = len(log)
        log.append(Takeover(len(log) + 1, row.id, row.owner_id, cause, row.state.worker_id, name, self.now()))

    def log_claimed(self, row: ChatRow, worker_id: UUID) -> None:
        """Note who takes a chat up, if it had lost its owner."""
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

    def record(self, by: Account, action: str, target: str, details: dict[str, Any]) -> None:
        """Log what an administrator does."""
        log = self.kept.audit
        log.append(AuditEntry(len(log) + 1, self.now(), by.user_id, by.name, action, target, details))

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
