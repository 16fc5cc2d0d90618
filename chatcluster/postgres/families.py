"""Families on Postgres: what is looked at, and written, besides the transition of one chat.

A transaction here holds the lock of one chat's row: to spawn, that of the parent, whose agents it counts; to report,
that of the chat that waits; to obey, that of the agent. What it has to know of other chats it reads without their
locks, in a statement after the one that took its own. A transaction that changes one of those looks at this one
afterwards, so of two at the same time the later one sees the other.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from uuid import UUID

from chatcluster import telemetry
from chatcluster.agents import AgentSeen, command_of, family_is_full, report
from chatcluster.chat import Command, ReportAgents, Status, ToolResult
from chatcluster.chat.family import Order
from chatcluster.errors import ChatNotFound, Moved, StoreFailed, StoreLocked, StoreUnavailable, Unreadable
from chatcluster.parts import text_of
from chatcluster.ports import Chat, NewChat, Outcome
from chatcluster.ports.families import Undone
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.chat_reader import get_chat
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import chat_of, parts_of, shown_chat_of

SQL = load_queries("families.sql")

REPORTS_MAX = 4
"""So many reports are given in one transaction: each may have a long text."""
TEXT_BYTES_MAX = 1 << 20
"""The most of a last message, as the server stores it: of a longer one the agent's waiter is told just that it is."""

UNDONE = ("report", "order", "overdue")
"""The kinds of what a sweep finds."""
LOOKS = {"select_undone_reports": 1, "select_undone_orders": 2, "select_undone_overdue": 0}
"""A look at each kind by itself, and how many arguments it takes."""

Found = tuple[Row, Command]
Find = Callable[[Connection, UUID], Awaitable[Found | None]]
"""Takes the lock of a chat's row, and says what is to be done to it."""


class PostgresFamilies:
    _database: Database

    @abstractmethod
    async def _made(self, connection: Connection, agent: NewChat) -> Outcome:
        """Insert a chat."""

    @abstractmethod
    async def _carried_out(self, connection: Connection, row: Row, command: Command) -> Outcome:
        """The transition of a chat whose row is locked."""

    async def spawn(self, agent: NewChat, call_id: str, *, agents_max: int) -> Outcome:
        asked = (agent, call_id, agents_max)
        return await self._database.transaction(self._spawn, *asked, lane=Lane.CHATS, chat_id=agent.parent_id)

    async def _spawn(self, connection: Connection, agent: NewChat, call_id: str, agents_max: int) -> Outcome:
        there = await find_agent(connection, agent, call_id, agents_max)
        return await self._made(connection, agent) if there is None else there

    async def report_agents(self, chat_id: UUID, *, patiently: bool = True) -> Outcome | None:
        return await self._found_and_changed(chat_id, lock_reported if patiently else lock_reported_now)

    async def obey(self, chat_id: UUID) -> Outcome | None:
        return await self._found_and_changed(chat_id, lock_ordered)

    async def _found_and_changed(self, chat_id: UUID, find: Find) -> Outcome | None:
        """What somebody holds, or what cannot be read, is left to the next sweep: it keeps no other chat waiting."""
        try:
            return await self._database.transaction(self._change, chat_id, find, lane=Lane.CHATS, chat_id=chat_id)
        except StoreLocked:
            return None
        except (StoreFailed, Unreadable) as error:
            telemetry.event("chat.passed_over", chat_id=str(chat_id), error=repr(error))
            return None

    async def _change(self, connection: Connection, chat_id: UUID, find: Find) -> Outcome | None:
        found = await find(connection, chat_id)
        return None if found is None else await self._carried_out(connection, *found)

    async def family(self, root_id: UUID) -> tuple[Chat, ...]:
        return tuple(map(shown_chat_of, await self._look("select_family", root_id)))

    async def undone(self, limit: int) -> Undone:
        asked = (limit, None)
        try:
            rows = await self._look("select_undone", *asked)
        except StoreUnavailable:  # it may be about one kind alone: the others do not wait for that
            rows = await self._undone_by_kind(asked)
        found = {kind: tuple(row["chat_id"] for row in rows if row["kind"] == kind) for kind in UNDONE}
        return Undone(found["report"], found["order"], is_overdue=bool(found["overdue"]))

    async def _undone_by_kind(self, asked: tuple[object, ...]) -> list[Row]:
        """What can be found of it. Raises ``StoreUnavailable`` if that is nothing, as of no kind it can be said."""
        rows: list[Row] = []
        errors: list[StoreUnavailable] = []
        for query, arguments in LOOKS.items():
            try:
                rows += await self._look(query, *asked[:arguments])
            except StoreUnavailable as error:
                errors.append(error)
        if len(errors) == len(LOOKS):
            raise errors[0]
        for why in errors:
            telemetry.event("deadlines.failed", of="undone", error=str(why))
        return rows

    async def due_orders(self, limit: int, *, root_id: UUID | None = None) -> tuple[UUID, ...]:
        return tuple(row["chat_id"] for row in await self._look("select_due_orders", limit, root_id))

    async def _look(self, query: str, *values: object) -> list[Row]:
        return await self._database.autocommit(_fetch, query, *values, lane=Lane.CHATS)


async def _fetch(connection: Connection, query: str, *values: object) -> list[Row]:
    return list(await connection.fetch(SQL[query], *values))


# --- to spawn ---------------------------------------------------------------------------------


async def find_agent(connection: Connection, agent: NewChat, call_id: str, agents_max: int) -> Outcome | None:
    """Lock its parent, and make sure that the agent may be inserted. If it is there already, the outcome says so."""
    status = await connection.fetchval(SQL["lock_parent"], agent.parent_id)
    if status is None:
        raise ChatNotFound("there is no such chat", chat_id=str(agent.parent_id))
    row = await connection.fetchrow(SQL["look_at_family"], agent.parent_id, agent.root_id, agent.id, call_id)
    assert row is not None, "a select without a table has one row"
    if row["is_there"]:
        return Outcome(await get_chat(connection, agent.id), replayed=True)
    if not row["is_open"] or status != Status.RUNNING:
        raise Moved(f"call {call_id} is not open any more, or its chat is being stopped")
    if row["agents"] >= agents_max:
        raise family_is_full(agents_max)
    await connection.execute(SQL["note_agents"], agent.parent_id)
    return None


# --- to report --------------------------------------------------------------------------------


async def lock_reported(connection: Connection, chat_id: UUID) -> Found | None:
    """The row of a chat that waits for agents, locked, and what it is to be told; None if there is nothing."""
    return await _reported(connection, await connection.fetchrow(SQL["lock_waiting"], chat_id), chat_id)


async def lock_reported_now(connection: Connection, chat_id: UUID) -> Found | None:
    """As ``lock_reported``, and None if somebody holds the row."""
    return await _reported(connection, await connection.fetchrow(SQL["lock_waiting_now"], chat_id), chat_id)


async def _reported(connection: Connection, row: Row | None, chat_id: UUID) -> Found | None:
    rows = [] if row is None else await connection.fetch(SQL["select_awaited"], chat_id, REPORTS_MAX, TEXT_BYTES_MAX)
    return (row, ReportAgents(tuple(map(_result_of, rows)))) if row is not None and rows else None


def _result_of(row: Row) -> ToolResult:
    return report(row["awaiting_call"], row["awaited_agent"], None if row["id"] is None else _seen(row))


def _seen(row: Row) -> AgentSeen:
    said = "(its last message is too long to be shown here)" if row["is_too_long"] else ""
    text = said if row["said"] is None else text_of(parts_of(row["said"]))
    return AgentSeen(shown_chat_of(row), text, tuple(row["waits_for"] or ()))


# --- orders -----------------------------------------------------------------------------------


async def lock_ordered(connection: Connection, chat_id: UUID) -> Found | None:
    """The row of a chat that has an order, locked, and the command that carries it out; None if there is none to be
    carried out now. An order that is carried out already, or for nobody, is gone after this."""
    row = await connection.fetchrow(SQL["lock_ordered"], chat_id)
    if row is None:
        await connection.execute(SQL["forget_order"], chat_id)
        return None
    chat, word = chat_of(row), await connection.fetchval(SQL["select_order"], chat_id)
    if word is None or (word == Order.UNARCHIVE and chat.archiving):
        return None
    order = _order_of(word)
    await connection.execute(SQL["delete_order"], chat_id)
    command = command_of(order, chat)
    return None if command is None else (row, command)


def _order_of(word: str) -> Order:
    try:
        return Order(word)
    except ValueError:
        raise Unreadable(f"an order to {word[:80]!r} is for a newer version of chatcluster") from None
