"""Chats: the rows as values, and ``Store``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from chatcluster.chat import ClientTool, Fence, OwnerCommand, Status, StoredState, UserCommand
from chatcluster.errors import ChatBusy
from chatcluster.parts import START, Cursor, EndedTurn, Message, NewMessage, Position, QueuedMessage
from chatcluster.ports.details import Details
from chatcluster.ports.families import Families
from chatcluster.ports.forks import Forks, HistoryCopy
from chatcluster.ports.ledger import Action, Ledger
from chatcluster.ports.prompts import NOTHING_TOLD, ToldPrompts
from chatcluster.ports.versions import Version as Version
from chatcluster.usage import Spent

Booking = tuple[Spent, ...]
"""What an owner's commit books, besides what it decides."""

VERSION_MAX = 2**63 - 1
TURNS_MAX = 1000
"""The most turns that are told, the newest of those that ended."""

MESSAGE_BYTES = 256
"""What a message counts for besides its content: its row, and its place in memory."""


class Chat(StoredState, frozen=True, kw_only=True):  # type: ignore[misc]  # see ``ChatState``
    """A chat's row, without history and queue."""

    id: UUID
    owner_id: UUID
    title: str
    model: str | None
    retry_at: datetime | None
    created_at: datetime
    updated_at: datetime
    client_tools: tuple[ClientTool, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    agents: bool | None = None
    """Whether it may have agents; None: as the deployment is set."""
    parent_id: UUID | None = None
    """The chat that this one is an agent of, as ``root_id`` is the one at the top; ``depth`` below that."""
    root_id: UUID | None = None
    depth: int = 0
    has_agents: bool = False
    open_calls: int = 0
    """How many calls have no result."""

    @property
    def family_id(self) -> UUID:
        """The chat at the top of the family: itself, unless it is an agent."""
        return self.root_id or self.id

    @property
    def failed_attempt(self) -> int:
        """The newest attempt at this history that came to nothing because the model failed. One whose owner is gone
        may go on with the next owner, so it is another one's beginning that says it did not."""
        return self.failed if self.retry is None else max(self.failed, self.retry.attempt)

    @property
    def shown_status(self) -> str:
        """The status in the API: a runnable chat that nobody owns yet is ``pending``; to wait for agents is to run."""
        if self.status is Status.REQUIRES_ACTION and self.waits_for_agents:
            return str(Status.RUNNING)
        if self.status is Status.RUNNING and self.worker_id is None and not self.archived:
            return "pending"
        return str(self.status)


class Idempotency(msgspec.Struct, frozen=True):
    """A caller's ``Idempotency-Key`` (unique per owner) and a digest of the request it came with."""

    key: str
    request_digest: bytes


class Outcome(msgspec.Struct, frozen=True):
    """What a transition did. ``message`` is the last one inserted, ``queued`` the one enqueued, ``ended`` the turn that
    ended with it."""

    chat: Chat
    messages: tuple[Message, ...] = ()
    queued: QueuedMessage | None = None
    replayed: bool = False
    """The answer of an earlier request with the same idempotency key; nothing was written."""
    ended: EndedTurn | None = None
    claimed: Claimed | None = None
    """The chat, if the transition took it up as well."""

    @property
    def message(self) -> Message | None:
        return self.messages[-1] if self.messages else None


class NewChat(msgspec.Struct, frozen=True):
    """``messages``: the first message to answer, if any; or a whole history, whose end is to be answered, or which is
    ``at_rest``. ``copied`` comes before them. ``wants_title``: a model is to find a better title."""

    id: UUID
    owner_id: UUID
    title: str
    model: str | None
    messages: tuple[NewMessage, ...]
    client_tools: tuple[ClientTool, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    system_prompt: str = ""
    """The chat's own prompt, apart from the messages."""
    agents: bool | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None
    depth: int = 0
    wants_title: bool = False
    at_rest: bool = False
    copied: HistoryCopy | None = None


class Claimed(msgspec.Struct, frozen=True):
    """A chat that is ours now, and how long it waited for that. Its history is read within its tenure."""

    chat: Chat
    retry_seconds: float = 0.0
    """What is left of the wait that the previous tenure had scheduled, by the database's clock."""
    prompts: ToldPrompts = NOTHING_TOLD
    """What its model is told before the conversation, as of now."""
    waited_seconds: float = 0.0

    @property
    def wait_seconds(self) -> float:
        """``retry_seconds``, and no more than was scheduled: a clock that was set back makes no wait longer."""
        retry = self.chat.retry
        return min(self.retry_seconds, retry.delay_ms / 1000) if retry else 0.0


class HistoryPage(msgspec.Struct, frozen=True):
    """Undeleted messages in order, as of ``history_version``."""

    history_version: int
    messages: tuple[Message, ...]
    size_bytes: int
    """What the messages count for: see ``MESSAGE_BYTES``."""
    has_more: bool


class ChatRead(msgspec.Struct, frozen=True):
    """A consistent view of a chat: the row, messages and ended turns that are newer than what is known, the queue.

    Of a page, ``next_revision`` is the revision of the first message that did not fit. ``actions`` are the calls that
    wait for somebody, in call order, of a chat that requires action.
    """

    chat: Chat
    messages: tuple[Message, ...]
    queue: tuple[QueuedMessage, ...]
    next_revision: int | None = None
    turns: tuple[EndedTurn, ...] = ()
    actions: tuple[Action, ...] = ()


class NewerMessages(msgspec.Struct, frozen=True):
    """``next_revision``: of the first message that did not fit."""

    messages: tuple[Message, ...]
    next_revision: int | None = None
    turns: tuple[EndedTurn, ...] = ()


class MessagePage(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...]
    queue: tuple[QueuedMessage, ...]
    has_more: bool
    actions: tuple[Action, ...] = ()


class NewestMessages(msgspec.Struct, frozen=True):
    """Messages, the newest first, and the chat that they are of at that moment."""

    chat: Chat
    messages: tuple[Message, ...]
    queue: tuple[QueuedMessage, ...]
    has_more: bool

    @property
    def cursor(self) -> Cursor:
        """Where the chat's stream goes on after this, if these are the newest of all messages."""
        positions = [Position.parse(message.position) for message in self.messages if message.position is not None]
        return Cursor(self.chat.snapshot_version, max(positions, default=START))


class DeletedChat(NamedTuple):
    chat_id: UUID
    owner_id: UUID


def require_rest(chat: Chat) -> None:
    """Raises ``ChatBusy`` for a chat that is at work, is about to be, or waits for an answer from outside."""
    if chat.runnable or chat.status is Status.REQUIRES_ACTION:
        raise ChatBusy("the chat is busy: interrupt it, and delete it when it rests", status=chat.shown_status)


class Changes(msgspec.Struct, frozen=True):
    """Chats that changed, the earliest first, and the database's clock and WAL timeline when it was asked.

    ``deleted``: those that are gone since, with the first page.
    """

    chats: tuple[Chat, ...]
    as_of: datetime
    deleted: tuple[DeletedChat, ...] = ()
    timeline: int | None = None


class Store(Ledger, Families, Details, Forks, Protocol):
    """Chats. One transaction per call, the chat row locked first; ``chat.decide`` decides.

    The first write after a failover leaps, see ``chat/timeline.py``.
    """

    async def create(
        self, chat: NewChat, idempotency: Idempotency | None = None, *, claimer: UUID | None = None
    ) -> Outcome:
        """Insert a chat: it runs if there is a message to answer, else it rests. Raises ``IdempotencyKeyReused``, and
        ``StoreFailed`` if there is one of its ID. ``claimer`` as for ``apply``."""
        ...

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
        claimer: UUID | None = None,
    ) -> Outcome:
        """A user's transition. Raises ``ChatNotFound`` (also for another user's chat) and what ``decide`` raises.

        ``claimer`` is a worker with a place for the chat: if the chat rested and runs with this, the transaction may
        claim it as well, with one snapshot version for both; ``Outcome.claimed`` says so. Not while any chat waits
        for an owner, or users have a limit of running chats: then it is claimed by turns, as ever.
        """
        ...

    async def answered(self, owner_id: UUID, idempotency: Idempotency) -> Outcome | None:
        """What an earlier request with this key was answered; if any. Raises ``IdempotencyKeyReused``."""
        ...

    async def delete(self, chat_id: UUID, *, owner_id: UUID) -> Chat:
        """Delete a chat that rests, with all that belongs to it, its agents too, for good. Returns what it was.

        Raises ``ChatNotFound`` (also for another user's chat), ``ChatBusy`` (of agents too), ``AgentChat``.
        """
        ...

    async def commit(
        self, fence: Fence, command: OwnerCommand, *, known: Chat | None = None, spent: Booking = ()
    ) -> Outcome:
        """An owner's transition. Raises ``Fenced`` or ``Moved``, having written nothing.

        ``known`` is the chat as the owner last saw it. It saves time if it is that still, and decides nothing.
        ``spent`` is booked in the same transaction; what is booked already stays as it is.

        A commit whose outcome was unknown may be repeated with the same arguments: messages carry (epoch, history
        version worked from, ordinal) under a unique key; a repeat that finds them returns them and writes nothing.
        """
        ...

    async def raise_epoch(self, chat_id: UUID, worker_id: UUID, *, epoch: int, above: int) -> Chat:
        """Let the tenure ``epoch`` go on as ``above``, because the part stream has an epoch that is too high.

        The chat leaps (``chat/timeline.py``): history counts as rewritten, the queue as changed. May be repeated.
        Raises ``Fenced`` if the tenure is over.
        """
        ...

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        """Claim up to ``batch`` runnable unowned chats, in one transaction. Rows only: no history is read.

        By turns: of each user the chat that waits longest, then of each the next. Sets ``worker_id``, an epoch above
        all before (``chat/tenure.py``), ``snapshot_version + 1``, ``takeovers + 1``; a running chat without a scheduled
        retry starts its next attempt with it. At most ``free_slots`` running chats are taken; interrupting ones are
        taken regardless, and first. Chats with content of a newer version are left to others.
        Of the chats with ``SUSPECTED_TAKEOVERS``, interrupting or running, a worker takes the one that waits longest,
        and no other for ``alone_seconds``. Nothing is taken for a worker without a row in the registry. A chat whose
        row cannot be read ends in an error; the others are claimed.
        """
        ...

    async def expire_actions(self, limit: int) -> tuple[Outcome, ...]:
        """Answer the calls of at most ``limit`` chats that have waited for somebody for as long as they may.

        Each chat is a transaction of its own. What somebody has locked is left for later, as is a chat that cannot be
        read or written: it keeps none of the others waiting.
        """
        ...

    async def read_history(
        self, chat_id: UUID, *, after: int, page_bytes: int, message_bytes_max: int, since: int = 0, before: int = 0
    ) -> HistoryPage:
        """Messages with ``id > after`` and ``revision >= since``, or the newest with ``id < before``, in order, until
        they have ``page_bytes``. In short steps. Raises ``HistoryTooLarge`` for a message above ``message_bytes_max``,
        ``Unreadable``, ``ChatNotFound``.
        """
        ...

    # For readers: no page has a system text. It has one message at least; its size is that of the contents in JSON.

    async def read(self, chat_id: UUID, *, after_version: int = 0) -> ChatRead:
        """One consistent read, with all messages of ``revision > after_version``. Raises ``ChatNotFound``."""
        ...

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
        """One consistent read, with a page of the messages with ``revision > after_version`` and ``id > after_id``.

        And the turns that ended after ``turns_after``, the newest ``TURNS_MAX`` of them. The queue is empty also where
        it is that of ``queue_version`` still. ``if_whole``: neither messages nor turns where not all of them come, or
        there are more than a few; ``next_revision`` is 0 then. Raises ``ChatNotFound``."""
        ...

    async def read_messages(
        self,
        chat_id: UUID,
        *,
        after_version: int,
        after_id: int,
        up_to_version: int,
        limit: int,
        bytes_max: int,
        turns_after: int = VERSION_MAX,
        turns_max: int = TURNS_MAX,
    ) -> NewerMessages:
        """A page of messages with ``after_version < revision <= up_to_version`` and ``id > after_id``, by ID.

        And of the turns with ``turns_after < revision <= up_to_version`` the newest ``turns_max``.
        """
        ...

    async def get(self, chat_id: UUID) -> Chat:
        """The row. Raises ``ChatNotFound``; the caller checks the owner."""
        ...

    async def versions(self, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
        """The snapshots of those of ``chat_ids`` that exist, in one statement."""
        ...

    async def list_chats(
        self,
        owner_id: UUID,
        *,
        archived: bool | None,
        limit: int,
        after: UUID | None,
        pinned: bool | None = None,
        words: str | None = None,
    ) -> tuple[Chat, ...]:
        """The chats that are nobody's agents, newest first; ``after`` is the last chat of the previous page.
        ``words``: only chats with these in their title, in whatever case. None leaves a choice away.

        Raises ``ChatNotFound`` for an unknown ``after``."""
        ...

    async def list_changed(
        self, owner_ids: Sequence[UUID], *, seconds: float, as_of: datetime | None, after: Chat | None, limit: int
    ) -> Changes:
        """A page of those chats of these owners, nobody's agents, that changed in the last ``seconds``, or ``seconds``
        before ``as_of``.

        ``as_of`` is what an earlier call returned. Both times are by the database's clock, and the earlier one counts:
        so a clock that is set, forward or back, hides no change. ``after`` is the last chat of the previous page.
        """
        ...

    async def list_messages(
        self, chat_id: UUID, *, owner_id: UUID, after: int, limit: int, bytes_max: int
    ) -> MessagePage:
        """A page of history by ID, the queue, and the actions. Raises ``ChatNotFound``."""
        ...

    async def list_newest(
        self, chat_id: UUID, *, owner_id: UUID, before: int, limit: int, bytes_max: int
    ) -> NewestMessages:
        """A page of the messages with ``id < before``, the newest first, with the chat and its queue, in one consistent
        read. Raises ``ChatNotFound``."""
        ...
