"""``Store`` on Postgres: lock the chat's row, load, ask ``chat.decide``, write what it says, in one transaction.

Who is authoritative: the row in ``chats``. A transaction that changes a chat holds its row's lock from the first
statement on; no transaction locks the rows of two chats and waits (the claim skips locked rows), so there is no
deadlock among them. What else belongs to a chat (queue, open calls, history) is read in statements after the one that
took the lock: a statement that had to wait for the lock sees the other tables as they were before it waited. Where the
row's counters say that there is nothing, nothing is read.

Each change of a row raises its snapshot version. So an owner's commit may be decided on the chat as its owner knows it,
and be written by one statement on condition that the version is still that, that the server writes on the chat's WAL
timeline, and that nothing is queued and no call is open. If not, nothing has happened, and the long way follows. Either
way the statement that changes the row has the owner's fence in its own condition. A claim is one statement as well, see
``claims.py``.

The first write after a failover leaps (``chat/timeline.py``). The server tells its timeline in the statements that take
the lock or write, and never once for all: a session's server may be a standby that is promoted, or another one behind
a pooler.

A user's message to a chat at rest likewise takes two statements without a transaction: one that looks at the row, and
one that does everything else if the row still is what was seen. A message that is refused or queued, or whose row was
changed meanwhile, goes the long way: only under the row's lock a message is refused. Where a worker has a place for the
chat, that one statement may claim it as well.

An idempotency key is reserved before the lock, and written with what makes a chat, see ``idempotency.py``.

What happens on failure: a ``StoreUnavailable`` from a transition leaves its outcome unknown. A caller repeats it
with its idempotency key; an owner repeats its commit, and is given the outcome of the first if that did happen
(see ``chat/recorded.py``). Without either, a repeat is a new transition.

All time is the database's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar
from uuid import UUID

import msgspec

from chatcluster.chat import (
    NO_FACTS,
    Command,
    Decision,
    ExpireCalls,
    Facts,
    Fence,
    OwnerCommand,
    Rename,
    UserCommand,
    continued,
    decide,
    is_repeat,
)
from chatcluster.errors import (
    Fenced,
    OwnershipError,
    StoreFailed,
    StoreLocked,
    StoreUnavailable,
    Unreadable,
)
from chatcluster.ports import Booking, Chat, Claimed, Idempotency, NewChat, Outcome, require_rest
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.claims import FIRST_OWNER, Place, claim, claim_seen, may_claim, with_claim
from chatcluster.postgres.creation import create_at_once, create_chat, is_plain_chat
from chatcluster.postgres.decision_writer import (
    SEEN_COMMANDS,
    Applied,
    Seen,
    decide_seen,
    is_plain,
    is_plain_of_user,
    write_decision,
    write_known,
    write_seen,
)
from chatcluster.postgres.idempotency import KeyAnswered, answer, answered, reserve
from chatcluster.postgres.looked_up import (
    facts_of,
    lock_overdue,
    make_sure_of_room,
    recorded_messages,
    require_family_rest,
)
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.reads import PostgresReads
from chatcluster.postgres.rows import (
    chat_of,
    existing,
    open_calls_of,
    queue_of,
    state_of,
)

SQL = load_queries("chats.sql")

T = TypeVar("T")


class PostgresStore(PostgresReads):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._settings = database.settings
        self._last_owner = FIRST_OWNER
        """The user whose turn it was in the last claim."""

    # transitions

    async def create(
        self, chat: NewChat, idempotency: Idempotency | None = None, *, claimer: UUID | None = None
    ) -> Outcome:
        generation, place = self._database.generation, self._place(claimer)
        try:
            outcome = await self._create(chat, idempotency, place)
        except (KeyAnswered, StoreFailed):  # a repeat meets its key, or the chat that it made
            earlier = None if idempotency is None else await self.answered(chat.owner_id, idempotency)
            if earlier is None:
                raise
            return earlier
        if chat.copied is None:
            self._histories.known.made(outcome, generation)
        self._confirm(outcome.claimed, generation)
        return outcome

    async def _create(self, chat: NewChat, idempotency: Idempotency | None, place: Place | None) -> Outcome:
        tries: list[Connection] = []
        if place is not None and idempotency is None and is_plain_chat(chat):
            with suppress(StoreFailed):  # the long way tells why, or that it was for the claim
                outcome = await self._database.autocommit(create_at_once, chat, place, tries)
                if outcome is not None:
                    return outcome
        bytes_max = self._settings.sizes.history_bytes_max
        try:
            return await _or_without(
                place, partial(self._database.transaction, create_chat, chat, idempotency, bytes_max)
            )
        except StoreFailed as error:
            if len(tries) > 1:
                raise StoreUnavailable("the connection broke while the chat was made: it may be there") from error
            raise

    async def apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        *,
        owner_id: UUID,
        idempotency: Idempotency | None = None,
        claimer: UUID | None = None,
    ) -> Outcome:
        generation, known = self._database.generation, self._histories.known
        place = self._place(claimer, None if self._database.is_pooled else known.version(chat_id, generation))
        before, outcome, history = await self._apply(chat_id, command, owner_id, idempotency, place)
        known.learn(before, outcome, generation)
        if history is not None:
            known.read(chat_id, outcome.chat.history_version, history, generation)
        self._confirm(outcome.claimed, generation)
        return outcome

    def _place(self, claimer: UUID | None, known_version: int | None = None) -> Place | None:
        """None as well where a chat has to be claimed by turns."""
        return None if claimer is None or self._settings.replica.user_chats_max else Place(claimer, known_version)

    def _confirm(self, claimed: Claimed | None, generation: int) -> None:
        if claimed is not None:
            self._histories.known.confirm(claimed, generation)

    async def _apply(
        self,
        chat_id: UUID,
        command: UserCommand,
        owner_id: UUID,
        idempotency: Idempotency | None,
        place: Place | None,
    ) -> Applied:
        bytes_max = self._settings.sizes.history_bytes_max
        if idempotency is None and isinstance(command, SEEN_COMMANDS):
            applied = await self._database.look_and_write(
                lambda connection: connection.fetchrow(SQL["select_chat_of_owner"], chat_id, owner_id),
                _apply_seen,
                command,
                bytes_max,
                place,
                chat_id=chat_id,
            )
            if applied is not None:
                return applied
        return await _or_without(
            place,
            lambda place: self._database.transaction(
                _apply, chat_id, command, owner_id, idempotency, bytes_max, place, chat_id=chat_id
            ),
        )

    async def answered(self, owner_id: UUID, idempotency: Idempotency) -> Outcome | None:
        return await self._database.autocommit(answered, owner_id, idempotency)

    async def delete(self, chat_id: UUID, *, owner_id: UUID) -> Chat:
        return await self._database.transaction(_delete, chat_id, owner_id, chat_id=chat_id)

    async def commit(
        self, fence: Fence, command: OwnerCommand, *, known: Chat | None = None, spent: Booking = ()
    ) -> Outcome:
        generation = self._database.generation
        outcome = await self._commit(fence, command, known, spent)
        self._histories.known.learn(fence.history_version, outcome, generation)
        return outcome

    async def _commit(self, fence: Fence, command: OwnerCommand, known: Chat | None, spent: Booking) -> Outcome:
        decision = None if known is None else _plain_decision(known, command, fence)
        if known is not None and decision is not None:
            outcome = await self._database.autocommit(
                _commit_known, known, decision, fence, spent, lane=Lane.CHATS, chat_id=fence.chat_id
            )
            if outcome is not None:
                return outcome
        return await self._database.transaction(_commit, fence, command, spent, lane=Lane.CHATS, chat_id=fence.chat_id)

    async def raise_epoch(self, chat_id: UUID, worker_id: UUID, *, epoch: int, above: int) -> Chat:
        return await self._database.autocommit(
            _raise_epoch, chat_id, worker_id, epoch, above, lane=Lane.CHATS, chat_id=chat_id
        )

    async def claim(self, worker_id: UUID, *, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        generation = self._database.generation
        claimed, self._last_owner = await claim(
            self._database,
            worker_id,
            free_slots,
            batch,
            after_owner=self._last_owner,
        )
        for one in claimed:
            self._histories.known.confirm(one, generation)
        return claimed

    async def _made(self, connection: Connection, agent: NewChat) -> Outcome:
        return await create_chat(connection, agent, None, self._settings.sizes.history_bytes_max)

    async def _carried_out(self, connection: Connection, row: Row, command: Command) -> Outcome:
        return await _transition(connection, row, command, None)

    async def expire_actions(self, limit: int) -> tuple[Outcome, ...]:
        expired: list[Outcome] = []
        for chat_id in await self._overdue_chats(limit):
            try:
                expired.extend(await self._expire(chat_id))
            except StoreUnavailable:
                if not expired:
                    raise
                break  # what was done is told
        return tuple(expired)

    async def _expire(self, chat_id: UUID) -> tuple[Outcome, ...]:
        try:
            return await self._database.transaction(_expire, chat_id, lane=Lane.CHATS, chat_id=chat_id)
        except StoreLocked:
            return ()
        except (StoreFailed, Unreadable) as error:
            await self._end_overdue(chat_id, error)
            return ()


# --- transitions ------------------------------------------------------------------------------


async def _or_without(place: Place | None, transact: Callable[[Place | None], Awaitable[T]]) -> T:
    """A transaction, which claims as well if it can. One that failed was undone, and may have failed for the claim."""
    try:
        return await transact(place)
    except StoreFailed:
        if place is None:
            raise
    return await transact(None)


async def _apply_seen(
    connection: Connection, row: Row | None, command: UserCommand, bytes_max: int, place: Place | None
) -> Applied | None:
    """A plain transition on a chat that still is the row that was seen; None where it takes its lock to say more."""
    seen = decide_seen(row, command, bytes_max)
    if seen is None:
        return None
    claimed = await claim_seen(connection, seen, place)
    if claimed is not None:
        return claimed
    outcome = await write_seen(connection, seen)
    return None if outcome is None else Applied(seen.chat.history_version, outcome)


async def _apply(
    connection: Connection,
    chat_id: UUID,
    command: UserCommand,
    owner_id: UUID,
    idempotency: Idempotency | None,
    bytes_max: int,
    place: Place | None,
) -> Applied:
    earlier = await reserve(connection, owner_id, idempotency)
    if earlier is not None:
        return Applied(0, earlier)
    row = existing(await connection.fetchrow(SQL["lock_chat_of_owner"], chat_id, owner_id), chat_id)
    facts = await facts_of(connection, chat_id, command)
    kept_bytes = await make_sure_of_room(connection, row, command, bytes_max)
    if isinstance(command, Rename):
        await connection.execute(SQL["forget_title"], chat_id)
    outcome = await _transition(connection, row, command, None, facts, kept_bytes, place=place)
    await answer(connection, owner_id, idempotency, msgspec.structs.replace(outcome, claimed=None))
    return Applied(row["history_version"], outcome)


async def _expire(connection: Connection, chat_id: UUID) -> tuple[Outcome, ...]:
    overdue = await lock_overdue(connection, chat_id)
    if overdue is None:
        return ()
    row, call_ids = overdue
    return (await _transition(connection, row, ExpireCalls(call_ids), None),)


async def _delete(connection: Connection, chat_id: UUID, owner_id: UUID) -> Chat:
    chat = chat_of(existing(await connection.fetchrow(SQL["lock_chat_of_owner"], chat_id, owner_id), chat_id))
    require_rest(chat)
    if chat.has_agents or chat.parent_id is not None:
        await require_family_rest(connection, chat)
    await connection.execute(SQL["delete_chat"], chat_id)
    return chat


async def _commit(connection: Connection, fence: Fence, command: OwnerCommand, spent: Booking) -> Outcome:
    row = await connection.fetchrow(SQL["lock_chat"], fence.chat_id)
    if row is None:  # a server that took the place of another may never have had it
        raise Fenced("the chat does not exist any more")
    try:
        return await _transition(connection, row, command, fence, spent=spent)
    except OwnershipError:
        recorded = await recorded_messages(connection, fence, command)
        if not is_repeat(command, recorded):
            raise
        return Outcome(chat_of(row), recorded, replayed=True)


async def _transition(
    connection: Connection,
    row: Row,
    command: Command,
    fence: Fence | None,
    facts: Facts = NO_FACTS,
    kept_bytes: int | None = None,
    spent: Booking = (),
    place: Place | None = None,
) -> Outcome:
    chat = chat_of(row)
    state = state_of(chat, (), ())
    has_more = row["queue_length"] or row["open_calls"]
    if has_more:
        rest = await connection.fetchrow(SQL["select_state"], chat.id)
        assert rest is not None, "a select without a table has one row"
        state = state_of(chat, queue_of(rest["queue"]), open_calls_of(rest["open_calls"]))
    state = continued(state, row["wal_timeline"])
    decision: Decision = decide(state, command, fence, facts)
    taken = None if place is None else await may_claim(connection, chat.id, chat.owner_id, state, decision, place)
    if taken is not None:
        decision = taken[0]
    outcome = None
    if not (fence or has_more or kept_bytes or chat.has_agents) and is_plain_of_user(decision):
        outcome = await write_seen(connection, Seen(chat, state, decision))
    if outcome is None:
        outcome = await write_decision(connection, chat.id, state, decision, fence, kept_bytes, spent)
    return outcome if taken is None else with_claim(outcome, taken[1])


async def _raise_epoch(connection: Connection, chat_id: UUID, worker_id: UUID, epoch: int, above: int) -> Chat:
    row = await connection.fetchrow(SQL["raise_epoch"], chat_id, worker_id, epoch, above)
    if row is None:
        row = existing(await connection.fetchrow(SQL["select_chat"], chat_id), chat_id)
    chat = chat_of(row)
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


async def _commit_known(
    connection: Connection, known: Chat, decision: Decision, fence: Fence, spent: Booking
) -> Outcome | None:
    return await write_known(connection, known, decision, state_of(known, (), ()), fence, spent)
