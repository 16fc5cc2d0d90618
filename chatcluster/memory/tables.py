"""The rows of one 'Postgres' in this process, table by table; ``database.py`` holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import UNSET

from chatcluster.chat import CallState, ChatSetup, ChatState
from chatcluster.chat.family import Order
from chatcluster.memory.push_tables import PushTables
from chatcluster.memory.workspace_tables import WorkspaceTables
from chatcluster.models import ModelEntry, Provider
from chatcluster.parts import EndedTurn, Message, QueuedMessage, Role
from chatcluster.ports import SESSION_LOCKS, DeletedChat, Grant, Login, McpServer, Outcome, Permission, Replica, Token
from chatcluster.ports.administration import AuditEntry, Takeover
from chatcluster.ports.files import Rendition, StoredFile
from chatcluster.ports.limits import Limit, LimitPlace, Member
from chatcluster.ports.series import Minute
from chatcluster.usage import Spent


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
    waits: dict[str, tuple[CallState, ...]] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    prefix: tuple[str, bytes] | None = None
    """What a turn begins with, and before it the digest of that."""


@dataclass(slots=True)
class ChatRow:
    """A chat: its row, its undeleted history by ID, and its queue in ``state``."""

    id: UUID
    owner_id: UUID
    setup: ChatSetup
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
    calls: CallRows = field(default_factory=CallRows)

    @property
    def title(self) -> str:
        return self.setup.title or ""

    @property
    def model(self) -> str | None:
        return None if self.setup.model is UNSET else self.setup.model

    @property
    def shown(self) -> list[Message]:
        """What readers get of its history: what the model alone is told of is none of it."""
        return [message for message in self.messages if message.role is not Role.SYSTEM]

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
    """Logins by the digests of their states."""
    grants: dict[tuple[UUID, UUID], GrantRow] = field(default_factory=dict)
    """Grants by server and user."""


@dataclass
class ModelTables:
    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, ModelEntry] = field(default_factory=dict)


@dataclass
class LimitTables:
    limits: dict[LimitPlace, Limit] = field(default_factory=dict)
    members: set[Member] = field(default_factory=set)


@dataclass(slots=True)
class SessionRow:
    token_id: str
    last_used_at: datetime
    expires_at: datetime


@dataclass(slots=True)
class CodeRow:
    token_id: str
    expires_at: datetime


class UsageKey(NamedTuple):
    """What an attempt is known by."""

    chat_id: UUID
    history_version: int
    attempt: int


class TitleWish(NamedTuple):
    """A chat that a model is to name, from when on, and how often that was tried."""

    due: float
    tries: int = 0
    under_way: bool = False


class UsageRow(NamedTuple):
    owner_id: UUID
    at: datetime
    spent: Spent
    root_id: UUID | None = None


class Kinship(NamedTuple):
    """What an agent is kin to: the chats that it belongs to."""

    parent_id: UUID
    root_id: UUID
    depth: int


@dataclass(slots=True)
class FamilyTables:
    kin: dict[UUID, Kinship] = field(default_factory=dict)
    """The kinship of each agent."""
    orders: dict[UUID, Order] = field(default_factory=dict)

    def children(self, chat_id: UUID) -> list[UUID]:
        return [agent_id for agent_id, kin in self.kin.items() if kin.parent_id == chat_id]


@dataclass(slots=True)
class FileRow:
    """``size_bytes`` is what was reserved until there is a ``file``: then the upload is finished."""

    owner_id: UUID
    name: str
    size_bytes: int
    chunks: dict[int, bytes] = field(default_factory=dict)
    file: StoredFile | None = None
    rendition: Rendition | None = None


@dataclass(slots=True)
class BrowserTables:
    sessions: dict[bytes, SessionRow] = field(default_factory=dict)
    codes: dict[bytes, CodeRow] = field(default_factory=dict)
    """Codes and sessions are both found by the digests of their secrets."""
    push: PushTables = field(default_factory=PushTables)


@dataclass(slots=True)
class Kept:
    """What is kept besides chats, replicas and accounts: who is signed in, what is allowed, and what happened."""

    keys: dict[tuple[UUID, str], UsedKey] = field(default_factory=dict)
    files: dict[UUID, FileRow] = field(default_factory=dict)
    permissions: dict[UUID, dict[tuple[str, UUID | None], Permission]] = field(default_factory=dict)
    """Permissions of each user, by tool and chat."""
    browsers: BrowserTables = field(default_factory=BrowserTables)
    deleted: list[tuple[datetime, DeletedChat]] = field(default_factory=list)
    """Chats that are gone for good, and since when."""
    takeovers: list[Takeover] = field(default_factory=list)
    freed: dict[UUID, int] = field(default_factory=dict)
    """Where among the takeovers the last one of each chat is that nobody has taken up."""
    audit: list[AuditEntry] = field(default_factory=list)
    prompts: dict[UUID, str] = field(default_factory=dict)
    """Prompts of users, of chats, and of the deployment."""
    usage: dict[UsageKey, UsageRow] = field(default_factory=dict)
    """What was spent, in the order of its booking."""
    titles_wanted: dict[UUID, TitleWish] = field(default_factory=dict)
    minutes: list[Minute] = field(default_factory=list)
    families: FamilyTables = field(default_factory=FamilyTables)
    limits: LimitTables = field(default_factory=lambda: LimitTables())
    workspaces: WorkspaceTables = field(default_factory=WorkspaceTables)
