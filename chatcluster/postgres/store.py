"""``Store`` on Postgres: lock the chat's row, load, ask ``chat.decide``, write what it says, in one transaction.

Who is authoritative: the row in ``chats``. Whoever changes a chat holds its row's lock from the first statement on; no
transaction locks the rows of two chats and waits (the claim skips locked rows), so there is no deadlock among them.
What else belongs to a chat (queue, open calls, history) is read in statements after the one that took the lock:
a statement that had to wait for the lock sees the other tables as they were before it waited. Where the row's
counters say that there is nothing, nothing is read.

Each change of a row raises its snapshot version. So an owner's commit may be decided on the chat as its owner knows it,
and be written by one statement on condition that the version is still that, that the server writes on the chat's WAL
timeline, and that nothing is queued and no call is open. If not, nothing has happened, and the long way follows. Either
way the statement that changes the row has the owner's fence in its own condition. A claim is one statement as well, see
``claims.py``.

The first write after a failover leaps (``chat/timeline.py``). The server tells its timeline in the statements that take
the lock or write, and never once for all: a session's server may be a standby that is promoted, or another one behind
a pooler.

An idempotency key is reserved before the lock, see ``idempotency.py``.

What happens on failure: a ``StoreUnavailable`` from a transition leaves its outcome unknown. A caller repeats it
with its idempotency key; an owner repeats its commit, and is given the outcome of the first if that did happen
(see ``chat/recorded.py``). Without either, a repeat is a new transition.

All time is the database's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chatcluster.chat import (
    NO_FACTS,
    Create,
    Decision,
    Facts,
    Fence,
    OwnerCommand,
    UserCommand,
    continued,
    create,
    decide,
    is_repeat,
)
from chatcluster.errors import Fenced, OwnershipError
from chatcluster.ports import (
    TURNS_MAX,
    VERSION_MAX,
    Changes,
    Chat,
    ChatRead,
    Claimed,
    HistoryPage,
    Idempotency,
    MessagePage,
    NewChat,
    NewerMessages,
    NewestMessages,
    Outcome,
    Version,
    require_rest,
)
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.chat_reader import ChatReader, Wanted, existing, get_chat
from chatcluster.postgres.claims import FIRST_OWNER, claim
from chatcluster.postgres.decision_writer import insert_chat, insert_messages, is_plain, write_decision, write_known
from chatcluster.postgres.history_reader import HistoryReader
from chatcluster.postgres.idempotency import answer, reserve
from chatcluster.postgres.looked_up import facts_of, make_sure_of_room, recorded_messages
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import (
    chat_of,
    messages_of,
    open_calls_of,
    queue_of,
    shown_chat_of,
    state_of,
    turns_of,
)

SQL = load_queries("chats.sql")

Place = tuple[UUID, int, int, int, int, int]
"""What the fragment ``page`` takes: chat, after which version and ID, up to which version, how many, how many bytes."""


class PostgresStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._settings = database.settings
        self._chats = ChatReader(database)
        self._histories = HistoryReader(database)
        self._last_owner = FIRST_OWNER
        """Whose turn it was in the last claim."""

    # transitions

    async def create(self, chat: NewChat, idempotency: Idempotency | None = None) -> Outcome:
        return await self._database.transaction(_create, chat, idempotency)

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
    ) -> Outcome:
        bytes_max = self._settings.history_bytes_max
        return await self._database.transaction(
            _apply, chat_id, command, owner_id, idempotency, bytes_max, chat_id=chat_id
        )

    async def delete(self, chat_id: UUID, *, owner_id: UUID) -> Chat:
        return await self._database.transaction(_delete, chat_id, owner_id, chat_id=chat_id)

    async def commit(self, fence: Fence, command: OwnerCommand, *, known: Chat | None = None) -> Outcome:
        decision = None if known is None else _plain_decision(known, command, fence)
        if known is not None and decision is not None:
            outcome = await self._database.autocommit(
                _commit_known, known, decision, fence, lane=Lane.CHATS, chat_id=fence.chat_id
            )
            if outcome is not None:
                return outcome
        return await self._database.transaction(_commit, fence, command, lane=Lane.CHATS, chat_id=fence.chat_id)

    async def raise_epoch(self, chat_id: UUID, worker_id: UUID, *, epoch: int, above: int) -> Chat:
        return await self._database.autocommit(
            _raise_epoch, chat_id, worker_id, epoch, above, lane=Lane.CHATS, chat_id=chat_id
        )

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        claimed, self._last_owner = await claim(
            self._database,
            worker_id,
            free_slots,
            batch,
            after_owner=self._last_owner,
        )
        return claimed

    # reads

    async def read(self, chat_id: UUID, *, after_version: int = 0) -> ChatRead:
        return await self._database.autocommit(_read, chat_id, after_version, lane=Lane.CHATS)

    async def read_history(self, chat_id: UUID, *, after: int, page_bytes: int, message_bytes_max: int) -> HistoryPage:
        return await self._histories.page(chat_id, after, page_bytes, message_bytes_max)

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
    ) -> ChatRead:
        place = (chat_id, after_version, after_id, VERSION_MAX, limit, bytes_max)
        return await self._database.autocommit(_read_newer, place, turns_after, queue_version, lane=Lane.CHATS)

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
        place = (chat_id, after_version, after_id, up_to_version, limit, bytes_max)
        return await self._database.autocommit(_read_messages, place, turns_after, turns_max, lane=Lane.CHATS)

    async def get(self, chat_id: UUID) -> Chat:
        return await self._chats.get(chat_id)

    async def versions(self, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
        return await self._database.autocommit(_versions, chat_ids, lane=Lane.CHATS)

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
        return await self._chats.listed(Wanted(owner_id, archived, limit, after, pinned, words))

    async def list_changed(
        self, owner_ids: Sequence[UUID], *, seconds: float, as_of: datetime | None, after: Chat | None, limit: int
    ) -> Changes:
        return await self._chats.changed(owner_ids, seconds, as_of, after, limit)

    async def list_messages(
        self, chat_id: UUID, *, owner_id: UUID, after: int, limit: int, bytes_max: int
    ) -> MessagePage:
        place = (chat_id, 0, after, VERSION_MAX, limit, bytes_max)
        return await self._database.autocommit(_list_messages, place, owner_id, chat_id=chat_id)

    async def list_newest(
        self, chat_id: UUID, *, owner_id: UUID, before: int, limit: int, bytes_max: int
    ) -> NewestMessages:
        place = (chat_id, owner_id, before, limit, bytes_max)
        return await self._database.autocommit(_list_newest, place, chat_id=chat_id)


# --- transitions ------------------------------------------------------------------------------


async def _create(connection: Connection, chat: NewChat, idempotency: Idempotency | None) -> Outcome:
    answered = await reserve(connection, chat.owner_id, idempotency)
    if answered is not None:
        return answered
    state = create(Create(chat.messages)).state
    row = await insert_chat(connection, chat, state)
    messages = await insert_messages(connection, chat.id, state.snapshot_version, chat.messages, None)
    return await answer(connection, chat.owner_id, idempotency, Outcome(chat_of(existing(row, chat.id)), messages))


async def _apply(
    connection: Connection,
    chat_id: UUID,
    command: UserCommand,
    owner_id: UUID,
    idempotency: Idempotency | None,
    bytes_max: int,
) -> Outcome:
    answered = await reserve(connection, owner_id, idempotency)
    if answered is not None:
        return answered
    row = existing(await connection.fetchrow(SQL["lock_chat_of_owner"], chat_id, owner_id), chat_id)
    facts = await facts_of(connection, chat_id, command)
    kept_bytes = await make_sure_of_room(connection, row, command, bytes_max)
    outcome = await _transition(connection, row, command, None, facts, kept_bytes)
    return await answer(connection, owner_id, idempotency, outcome)


async def _delete(connection: Connection, chat_id: UUID, owner_id: UUID) -> Chat:
    chat = chat_of(existing(await connection.fetchrow(SQL["lock_chat_of_owner"], chat_id, owner_id), chat_id))
    require_rest(chat)
    await connection.execute(SQL["delete_chat"], chat_id)
    return chat


async def _commit(connection: Connection, fence: Fence, command: OwnerCommand) -> Outcome:
    row = await connection.fetchrow(SQL["lock_chat"], fence.chat_id)
    if row is None:  # a server that took the place of another may never have had it
        raise Fenced("the chat does not exist any more")
    try:
        return await _transition(connection, row, command, fence)
    except OwnershipError:
        recorded = await recorded_messages(connection, fence, command)
        if not is_repeat(command, recorded):
            raise
        return Outcome(chat_of(row), recorded, replayed=True)


async def _transition(
    connection: Connection,
    row: Row,
    command: UserCommand | OwnerCommand,
    fence: Fence | None,
    facts: Facts = NO_FACTS,
    kept_bytes: int | None = None,
) -> Outcome:
    chat = chat_of(row)
    state = state_of(chat, (), ())
    if row["queue_length"] or row["open_calls"]:
        rest = await connection.fetchrow(SQL["select_state"], chat.id)
        assert rest is not None, "a select without a table has one row"
        state = state_of(chat, queue_of(rest["queue"]), open_calls_of(rest["open_calls"]))
    state = continued(state, row["wal_timeline"])
    decision: Decision = decide(state, command, fence, facts)
    return await write_decision(connection, chat.id, state, decision, fence, kept_bytes)


async def _raise_epoch(connection: Connection, chat_id: UUID, worker_id: UUID, epoch: int, above: int) -> Chat:
    row = await connection.fetchrow(SQL["raise_epoch"], chat_id, worker_id, epoch, above)
    chat = await get_chat(connection, chat_id) if row is None else chat_of(row)
    if (chat.worker_id, chat.epoch) != (worker_id, above):  # otherwise a repeat finds what it did
        raise Fenced(f"the tenure {epoch} of chat {chat_id} is over; now {chat.epoch}")
    return chat


def _plain_decision(known: Chat, command: OwnerCommand, fence: Fence) -> Decision | None:
    """What to write if the chat is as it is known; None if that takes a look at more than its row."""
    try:
        decision = decide(state_of(known, (), ()), command, fence)
    except OwnershipError:
        return None  # the row itself has to say so
    return decision if is_plain(decision) else None


async def _commit_known(connection: Connection, known: Chat, decision: Decision, fence: Fence) -> Outcome | None:
    return await write_known(connection, known, decision, state_of(known, (), ()), fence)


# --- reads ------------------------------------------------------------------------------------


async def _read(connection: Connection, chat_id: UUID, after_version: int) -> ChatRead:
    row = existing(await connection.fetchrow(SQL["read_chat"], chat_id, after_version), chat_id)
    return ChatRead(shown_chat_of(row), messages_of(row["messages"]), queue_of(row["queue"]))


async def _read_newer(connection: Connection, place: Place, turns_after: int, queue_version: int) -> ChatRead:
    values = (*place, turns_after, TURNS_MAX, queue_version)
    row = existing(await connection.fetchrow(SQL["read_chat_page"], *values), place[0])
    messages, queue, turns = messages_of(row["messages"]), queue_of(row["queue"]), turns_of(row["turns"])
    return ChatRead(shown_chat_of(row), messages, queue, row["next_revision"], turns)


async def _read_messages(connection: Connection, place: Place, turns_after: int, turns_max: int) -> NewerMessages:
    row = await connection.fetchrow(SQL["read_messages"], *place, turns_after, turns_max)
    assert row is not None, "a page has one row, also an empty one"
    return NewerMessages(messages_of(row["messages"]), row["next_revision"], turns_of(row["turns"]))


async def _versions(connection: Connection, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
    rows = await connection.fetch(SQL["select_versions"], list(chat_ids))
    return {row["id"]: Version(*(row[name] for name in Version._fields)) for row in rows}


async def _list_messages(connection: Connection, place: Place, owner_id: UUID) -> MessagePage:
    row = existing(await connection.fetchrow(SQL["list_messages"], *place, owner_id), place[0])
    has_more = row["next_revision"] is not None
    return MessagePage(messages_of(row["messages"]), queue_of(row["queue"]), has_more=has_more)


async def _list_newest(connection: Connection, place: tuple[UUID, UUID, int, int, int]) -> NewestMessages:
    row = existing(await connection.fetchrow(SQL["list_newest"], *place), place[0])
    messages, queue = messages_of(row["messages"]), queue_of(row["queue"])
    return NewestMessages(shown_chat_of(row), messages, queue, has_more=row["has_more"])
