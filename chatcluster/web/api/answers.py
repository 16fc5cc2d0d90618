"""What callers get besides a chat (``views.py``): the JSON of messages, replicas and tokens. Each field is part of the
API."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from litestar.openapi.datastructures import ResponseSpec

from chatcluster.parts import Message, QueuedMessage
from chatcluster.ports import Account, Permission, Replica, Scopes, Token
from chatcluster.ports.administration import AuditEntry, Takeover, UserRow
from chatcluster.views import ChatAnswer


class ChatsAnswer(msgspec.Struct, frozen=True):
    chats: list[ChatAnswer]
    has_more: bool


class MessagesAnswer(msgspec.Struct, frozen=True):
    """A page of history, and the whole queue. ``cursor``: where the stream goes on after the newest messages."""

    messages: tuple[Message, ...]
    queue: tuple[QueuedMessage, ...]
    has_more: bool
    cursor: str | None = None


class SentAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """``message`` if it went into history (201), ``queued`` if it waits for the chat (202)."""

    chat: ChatAnswer
    message: Message | None = None
    queued: QueuedMessage | None = None


class PermissionsAnswer(msgspec.Struct, frozen=True):
    permissions: tuple[Permission, ...]


class AccountAnswer(msgspec.Struct, frozen=True):
    """``scopes``: where the token lets in; null: everywhere."""

    user_id: UUID
    name: str
    admin: bool
    scopes: Scopes = None


class SessionAnswer(msgspec.Struct, frozen=True):
    """``kind``: session (by a cookie) or token. It ends at ``expires_at``, a session also at ``idle_expires_at``, which
    moves on as long as it is used."""

    user_id: UUID
    name: str
    admin: bool
    kind: str
    expires_at: datetime | None
    idle_expires_at: datetime | None
    scopes: Scopes = None


class CodeAnswer(msgspec.Struct, frozen=True):
    """``path``: the page's address with the code."""

    code: str
    expires_at: datetime
    path: str


class ReplicaAnswer(msgspec.Struct, frozen=True):
    """``state``: active, draining, or late (no heartbeat for longer than the lease)."""

    worker_id: UUID
    name: str
    address: str
    version: str
    state: str
    slots: int
    chats: int
    heartbeat_age_seconds: float
    started_at: datetime | None


class ReplicasAnswer(msgspec.Struct, frozen=True):
    replicas: list[ReplicaAnswer]


class TakeoversAnswer(msgspec.Struct, frozen=True):
    takeovers: tuple[Takeover, ...]
    has_more: bool


class UsersChatAnswer(msgspec.Struct, frozen=True):
    """``user``: the name of the user whose chat it is."""

    chat: ChatAnswer
    owner_id: UUID
    user: str | None


class UsersChatsAnswer(msgspec.Struct, frozen=True):
    chats: list[UsersChatAnswer]
    has_more: bool


class UsersAnswer(msgspec.Struct, frozen=True):
    users: tuple[UserRow, ...]
    has_more: bool


class AuditAnswer(msgspec.Struct, frozen=True):
    entries: tuple[AuditEntry, ...]
    has_more: bool


class SeriesPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One step, from ``at`` on. ``turns`` is all that ended, ``failed`` and ``interrupted`` those of them that did so.

    ``first_token_…``: within how long half of the answers, or 95 of 100, had their first token; null without any.
    """

    at: datetime
    turns: int
    failed: int
    interrupted: int
    output_tokens: int
    tokens_per_second: float
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None
    takeovers: int


class SeriesAnswer(msgspec.Struct, frozen=True):
    step_seconds: int
    points: list[SeriesPoint]


class TokensAnswer(msgspec.Struct, frozen=True):
    tokens: tuple[Token, ...]


class NewTokenAnswer(msgspec.Struct, frozen=True):
    """``token`` is the secret itself. This is the only time that it is shown."""

    token: str
    details: Token


class HealthAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    status: str
    checks: dict[str, str] = {}


class ErrorDetails(msgspec.Struct, frozen=True):
    code: str
    message: str


class ErrorAnswer(msgspec.Struct, frozen=True):
    """``code`` never changes its meaning; ``message`` is for people. Some codes come with further fields."""

    error: ErrorDetails


def _refusal(description: str) -> ResponseSpec:
    return ResponseSpec(ErrorAnswer, generate_examples=False, description=description)


REFUSALS = {
    400: _refusal("The request does not have the form that the API takes"),
    401: _refusal("There is no valid token"),
    403: _refusal("This is for administrators, or the token's scopes do not have it"),
    404: _refusal("There is no such thing, or it is not the caller's"),
    409: _refusal("The state of the chat does not allow it now"),
    413: _refusal("The body, or a text in it, is too large"),
    415: _refusal("The body is not declared to be JSON"),
    429: _refusal("A limit on concurrent use; see Retry-After"),
    503: _refusal("A server that this needs cannot be reached right now; see Retry-After"),
}
"""How each route of the API may refuse, for its description in OpenAPI."""


def account_answer(account: Account) -> AccountAnswer:
    return AccountAnswer(account.user_id, account.name, account.admin, account.scopes)


def replica_answer(replica: Replica, *, lease_ttl_seconds: float) -> ReplicaAnswer:
    late = replica.heartbeat_age_seconds > lease_ttl_seconds
    return ReplicaAnswer(
        worker_id=replica.worker_id,
        name=replica.name,
        address=replica.address,
        version=replica.version,
        state="late" if late else "draining" if replica.draining else "active",
        slots=replica.slots,
        chats=replica.chats,
        heartbeat_age_seconds=round(replica.heartbeat_age_seconds, 3),
        started_at=replica.started_at,
    )
