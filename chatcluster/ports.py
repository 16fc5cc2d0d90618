"""The protocols between the loops and the outside. Each has at least two implementations.

===============  ==========================  ==========================
port             for real                    in one process
===============  ==========================  ==========================
``Store``        ``store.PostgresStore``     ``memory.MemoryStore``
``Registry``     ``registry.PostgresRegistry``  ``memory.MemoryRegistry``
``Accounts``     ``accounts.PostgresAccounts``  ``memory.MemoryAccounts``
``PartStreams``  ``streams.RedisStreams``    ``memory.MemoryStreams``
``PubSub``       ``pubsub.RedisPubSub``      ``memory.MemoryPubSub``
``Model``        ``llm.client.ChatCompletions``  scripted models in tests
===============  ==========================  ==========================

Every method may raise ``StoreUnavailable`` (the first three) or ``StreamsUnavailable`` (``PartStreams``);
``PubSub`` never raises for the network: it is best effort by contract, and says where it had a gap.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.chat import ErrorInfo, Fence, OwnerCommand, Retry, Status, UserCommand
from chatcluster.parts import Frame, Message, NewMessage, Part, Position, QueuedMessage, Usage

# --- the store --------------------------------------------------------------------------------


class Chat(msgspec.Struct, frozen=True):
    """A chat's row, without history and queue."""

    id: UUID
    owner_id: UUID
    title: str
    model: str | None
    status: Status
    archived: bool
    archiving: bool
    compacting: bool
    worker_id: UUID | None
    epoch: int
    snapshot_version: int
    history_version: int
    queue_version: int
    reset_version: int
    attempt: int
    retry: Retry | None
    retry_at: datetime | None
    last_error: ErrorInfo | None
    created_at: datetime
    updated_at: datetime

    @property
    def runnable(self) -> bool:
        return not self.archived and self.status in (Status.RUNNING, Status.INTERRUPTING)

    @property
    def claimable(self) -> bool:
        return self.runnable and self.worker_id is None

    @property
    def shown_status(self) -> str:
        """The status in the API: a runnable chat that nobody owns yet is ``pending``."""
        if self.status is Status.RUNNING and self.worker_id is None and not self.archived:
            return "pending"
        return str(self.status)


class Hint(msgspec.Struct, frozen=True):
    """Published after each commit. It says that there is something to read, and is never data."""

    chat_id: UUID
    snapshot_version: int
    history_version: int
    queue_version: int
    status: Status
    worker_id: UUID | None
    epoch: int
    attempt: int


def hint_of(chat: Chat) -> Hint:
    return Hint(
        chat.id,
        chat.snapshot_version,
        chat.history_version,
        chat.queue_version,
        chat.status,
        chat.worker_id,
        chat.epoch,
        chat.attempt,
    )


class Idempotency(msgspec.Struct, frozen=True):
    """A caller's ``Idempotency-Key`` (unique per owner) and a digest of the request it came with."""

    key: str
    request_digest: bytes


class Outcome(msgspec.Struct, frozen=True):
    """What a transition did. ``message`` is the last one inserted, ``queued`` the one enqueued."""

    chat: Chat
    messages: tuple[Message, ...] = ()
    queued: QueuedMessage | None = None
    replayed: bool = False
    """The answer of an earlier request with the same idempotency key; nothing was written."""

    @property
    def message(self) -> Message | None:
        return self.messages[-1] if self.messages else None


class NewChat(msgspec.Struct, frozen=True):
    id: UUID
    owner_id: UUID
    title: str
    model: str | None
    messages: tuple[NewMessage, ...]


class Claimed(msgspec.Struct, frozen=True):
    """A chat that is ours now, with its whole (undeleted) history, read in the claim's transaction."""

    chat: Chat
    messages: tuple[Message, ...]
    retry_seconds: float = 0.0
    """What is left of the wait that the previous tenure had scheduled."""


class ChatRead(msgspec.Struct, frozen=True):
    """A consistent view of a chat: the row, the messages with ``revision > after_version``, the queue."""

    chat: Chat
    messages: tuple[Message, ...]
    queue: tuple[QueuedMessage, ...]


class MessagePage(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...]
    queue: tuple[QueuedMessage, ...]
    has_more: bool


class Store(Protocol):
    """Chats. One transaction per call, the chat row locked first; ``chat.decide`` decides."""

    async def create(self, chat: NewChat, idempotency: Idempotency | None = None) -> Outcome:
        """Insert a chat that runs at once. Raises ``IdempotencyKeyReused``."""
        ...

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
    ) -> Outcome:
        """A user's transition. Raises ``ChatNotFound`` (also for another user's chat) and what ``decide`` raises."""
        ...

    async def commit(self, fence: Fence, command: OwnerCommand) -> Outcome:
        """An owner's transition. Raises ``Fenced`` or ``Moved``, having written nothing.

        A commit whose outcome was unknown may be repeated with the same arguments: messages carry
        (epoch, history version worked from, ordinal) under a unique key, and a repeat that finds them
        returns their outcome and writes nothing.
        """
        ...

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        """Claim up to ``batch`` runnable unowned chats, oldest first, in one transaction.

        Sets ``worker_id``, ``epoch + 1``, ``snapshot_version + 1``; a running chat without a scheduled
        retry starts its next attempt with it. At most ``free_slots`` running chats are taken;
        interrupting ones are taken regardless. Nothing is taken for a worker without a row in the registry.
        """
        ...

    async def read(self, chat_id: UUID, *, after_version: int = 0) -> ChatRead:
        """One consistent read. Raises ``ChatNotFound``."""
        ...

    async def read_messages(
        self, chat_id: UUID, *, after_version: int, after_id: int, up_to_version: int, limit: int
    ) -> tuple[Message, ...]:
        """Undeleted messages with ``after_version < revision <= up_to_version`` and ``id > after_id``, by ID."""
        ...

    async def get(self, chat_id: UUID) -> Chat:
        """The row. Raises ``ChatNotFound``; the caller checks the owner."""
        ...

    async def versions(self, chat_ids: Sequence[UUID]) -> dict[UUID, int]:
        """The snapshot versions of those of ``chat_ids`` that exist, in one statement."""
        ...

    async def list_chats(
        self, owner_id: UUID, *, archived: bool | None, limit: int, after: UUID | None
    ) -> tuple[Chat, ...]:
        """Newest first; ``after`` is the last chat of the previous page. An unknown one raises ``ChatNotFound``."""
        ...

    async def list_messages(self, chat_id: UUID, *, owner_id: UUID, after: int, limit: int) -> MessagePage:
        """A page of history by ID, and the queue. Raises ``ChatNotFound``."""
        ...


# --- the registry of replicas -----------------------------------------------------------------


class Replica(msgspec.Struct, frozen=True):
    worker_id: UUID
    name: str
    address: str
    version: str
    slots: int
    draining: bool = False
    chats: int = 0
    started_at: datetime | None = None
    heartbeat_age_seconds: float = 0.0


class OwnedChat(msgspec.Struct, frozen=True):
    """What the database believes that a worker owns."""

    chat_id: UUID
    epoch: int
    snapshot_version: int
    history_version: int
    status: Status


class Renewal(msgspec.Struct, frozen=True):
    owned: tuple[OwnedChat, ...]
    ring: tuple[UUID, ...]
    """All registered workers, ordered."""


class Registry(Protocol):
    """The rows of the replicas, their leases and session locks. Time is the database's.

    ``renew`` has a connection of its own, so that a busy pool never delays a heartbeat; ``hold`` and
    ``watch`` use one each, and the holder never waits for another lock.
    """

    async def register(self, replica: Replica) -> None: ...

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        """Raises ``LeaseLost`` when the row is gone: somebody buried this worker."""
        ...

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        """Delete the own row; chats that it still owns become unowned and are returned."""
        ...

    def hold(self, worker_id: UUID) -> AbstractAsyncContextManager[SessionLock]:
        """Hold the session lock of ``worker_id`` on a connection of its own for the length of the block."""
        ...

    async def watch(self, worker_id: UUID) -> bool:
        """Wait until the session lock of ``worker_id`` is let go, on a connection of its own.

        True is proof of death: this very session saw the lock held and was then granted it. False means
        that the lock was free from the start, which proves nothing. Raises ``StoreUnavailable`` when the
        own connection breaks.
        """
        ...

    async def bury(self, worker_id: UUID, *, lease_ttl_seconds: float | None) -> tuple[Chat, ...] | None:
        """Delete a dead worker's row and clear it from its chats, in one transaction.

        With ``lease_ttl_seconds`` the row's heartbeat is checked again under the lock: None is returned, and
        nothing done, if it is younger. None as well if there is no such row and no chat of it.
        """
        ...

    async def dead(self, lease_ttl_seconds: float) -> tuple[UUID, ...]:
        """Workers whose heartbeat is older than the lease, and owners of chats that have no row at all."""
        ...

    async def replicas(self) -> tuple[Replica, ...]: ...


class SessionLock(Protocol):
    async def wait_lost(self) -> None:
        """Return when the connection that holds the lock is gone."""
        ...


# --- accounts ---------------------------------------------------------------------------------


class Account(msgspec.Struct, frozen=True):
    user_id: UUID
    name: str
    admin: bool


class Token(msgspec.Struct, frozen=True):
    id: str
    user_id: UUID
    user_name: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None


class Accounts(Protocol):
    async def authenticate(self, token_id: str, secret_digest: bytes) -> Account | None:
        """The account of a token that exists, matches in constant time, and is not expired."""
        ...

    async def ensure_user(self, name: str, *, admin: bool) -> Account:
        """The user of that name, created if there is none. An existing user's rights are left alone."""
        ...

    async def add_token(
        self, user_id: UUID, *, token_id: str, name: str, secret_digest: bytes, expires_at: datetime | None
    ) -> Token: ...

    async def tokens(self) -> tuple[Token, ...]: ...

    async def revoke(self, token_id: str) -> bool: ...


# --- streams and pubsub -----------------------------------------------------------------------


class Appended(StrEnum):
    ADDED = "added"
    REFUSED = "refused"
    """The stream has a higher position already: of a newer tenure, or this very frame from before."""
    MISSING = "missing"
    """There is no such stream (any more)."""


class PartStreams(Protocol):
    """The part streams. Positions are IDs, and a lower one than the last is refused by the server itself."""

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        """Open a tenure with its frame of seq 0, creating the stream if need be, and publish it.

        Atomic with its publication: on the live channel it comes before every frame that is refused because
        of it. ``trim`` drops everything before it. Raises ``Fenced`` if a newer tenure is open; opening one's own
        tenure again does nothing.
        """
        ...

    async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
        """Add frames in order and publish each on its chat's live channel, in one round trip.

        A ``turn`` frame trims the stream to itself; a ``close`` frame starts the stream's expiry.
        """
        ...

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        """Append those of ``frames`` (one tenure's, in order, from its ``open``) that the stream lacks.

        Creates the stream if it is gone. Raises ``Fenced`` if a newer tenure is open.
        """
        ...

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        """Frames after a position, in order; fewer than ``limit`` mean that the end was reached."""
        ...


class Gap(msgspec.Struct, frozen=True):
    """Something may have been missed here: the connection was lost, or the buffer overflowed."""


GAP = Gap()


class Subscription(Protocol):
    async def receive(self) -> bytes | Gap:
        """The next payload, or ``GAP`` in the place of what may have been missed."""
        ...

    def receive_nowait(self) -> bytes | Gap:
        """Raises ``trio.WouldBlock`` when nothing is there."""
        ...


class PubSub(Protocol):
    """Fire and forget messages to whoever listens now."""

    def publish(self, channel: str, payload: bytes) -> None:
        """Never blocks and never fails. Subscribers in this process get it at once, the others
        through the server, if it can be reached."""
        ...

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Subscription]:
        """Listen within the block. On entry the server has confirmed the subscription; if it cannot be
        reached the block is entered all the same, and a ``GAP`` comes when it can."""
        ...


RUNNABLE_CHANNEL = "chatcluster:runnable"
"""A chat became claimable, and the replica that made it so has no place for it."""
REPLICAS_CHANNEL = "chatcluster:replicas"
"""A replica came or went: look at the ring again."""
TOKENS_CHANNEL = "chatcluster:tokens"
"""A token was revoked: forget what is cached."""


def hint_channel(chat_id: UUID) -> str:
    return f"chatcluster:{{{chat_id}}}:hint"


def live_channel(chat_id: UUID) -> str:
    return f"chatcluster:{{{chat_id}}}:live"


def worker_channel(worker_id: UUID) -> str:
    """Hints of all chats that one worker owns."""
    return f"chatcluster:worker:{worker_id}"


def owner_channel(owner_id: UUID) -> str:
    """Lifecycle events of all chats of one user."""
    return f"chatcluster:owner:{owner_id}"


# --- the model --------------------------------------------------------------------------------


class ModelRequest(msgspec.Struct, frozen=True):
    chat_id: UUID
    messages: tuple[Message, ...]
    model: str | None = None
    """None: the deployment's default."""


class Delta(msgspec.Struct, frozen=True):
    """A piece of the answer, in order: text, reasoning, or a whole tool call."""

    part: Part


class KeepAlive(msgspec.Struct, frozen=True):
    """The server showed that it is alive; it resets the silence guard and nothing else."""


class Finished(msgspec.Struct, frozen=True):
    """The provider's own terminal event. ``reason``: stop, length, content_filter, tool_calls."""

    reason: str
    usage: Usage | None = None
    model: str | None = None


ModelEvent = Delta | KeepAlive | Finished


class Model(Protocol):
    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """One attempt at a response. The iterator ends after ``Finished``, or raises ``ProviderError``;
        an end of the wire without a terminal event is a ``ProviderError`` (kind ``stream_incomplete``)."""
        ...
