"""``Ledger`` on Postgres, and the end of waits whose time is over.

The sweep of overdue calls takes the IDs of chats first, then each chat in a transaction of its own, so a replica that
dies in the middle has ended some waits and left the others as they were. What happens on failure: a row that somebody
holds is left for later; a chat that cannot be read ends in an error, written without reading it, and if not even that
is possible it is passed over. Chats come in no order, so none stands before the others for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chatcluster import telemetry
from chatcluster.chat import CallState, ErrorInfo, Fence, OpenCall
from chatcluster.errors import Fenced, Moved, StoreFailed, Unreadable
from chatcluster.ports import PERMISSIONS_MAX, Action, Permission, ResultSlice, SignInWait
from chatcluster.ports.ledger import Waits
from chatcluster.postgres import Connection, Database, Lane
from chatcluster.postgres.families import PostgresFamilies
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import actions_of, existing, json_of, open_calls_of

UNREADABLE = ErrorInfo("unreadable", "this chat cannot be read by this version of chatcluster; start a new one")

SQL = load_queries("ledger.sql")

_STATES = tuple(map(str, CallState))
"""Of those that a newer version knows besides, a newer version tells."""


class PostgresLedger(PostgresFamilies):
    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_calls(self, chat_id: UUID) -> tuple[OpenCall, ...]:
        return await self._database.autocommit(_open_calls, chat_id, lane=Lane.CHATS, chat_id=chat_id)

    async def actions(self, chat_id: UUID) -> tuple[Action, ...]:
        return await self._database.autocommit(_actions, chat_id, chat_id=chat_id)

    async def waits(self, chat_id: UUID, message_id: int) -> Waits:
        return await self._database.autocommit(_waits, chat_id, message_id, chat_id=chat_id)

    async def sign_in_waits(self, limit: int, *, owner_id: UUID | None = None) -> tuple[SignInWait, ...]:
        return await self._database.autocommit(_sign_in_waits, limit, owner_id)

    async def keep_result(self, fence: Fence, call_id: str, data: bytes) -> None:
        await self._database.autocommit(_keep_result, fence, call_id, data, lane=Lane.CHATS, chat_id=fence.chat_id)

    async def keep_prefix(self, fence: Fence, digest: str, data: bytes) -> None:
        await self._database.autocommit(_keep_prefix, fence, digest, data, lane=Lane.CHATS, chat_id=fence.chat_id)

    async def read_prefix(self, chat_id: UUID) -> bytes | None:
        return await self._database.autocommit(_read_prefix, chat_id, lane=Lane.CHATS, chat_id=chat_id)

    async def read_result(self, chat_id: UUID, call_id: str, *, offset: int, limit: int) -> ResultSlice | None:
        asked = (chat_id, call_id, offset, limit)
        return await self._database.autocommit(_read_result, *asked, lane=Lane.CHATS, chat_id=chat_id)

    async def permissions(self, owner_id: UUID, *chat_ids: UUID) -> frozenset[str]:
        return await self._database.autocommit(_permissions, owner_id, chat_ids, lane=Lane.CHATS)

    async def list_permissions(self, owner_id: UUID) -> tuple[Permission, ...]:
        return await self._database.autocommit(_list_permissions, owner_id)

    async def delete_permission(self, owner_id: UUID, permission_id: UUID) -> bool:
        return await self._database.autocommit(_delete_permission, owner_id, permission_id)

    # the sweep

    async def _overdue_chats(self, limit: int) -> list[UUID]:
        return await self._database.autocommit(_overdue_chats, limit, lane=Lane.CHATS)

    async def _end_overdue(self, chat_id: UUID, why: StoreFailed | Unreadable) -> None:
        telemetry.event("chat.unreadable", chat_id=str(chat_id), error=repr(why))
        try:
            await self._database.autocommit(_end_overdue, chat_id, lane=Lane.CHATS, chat_id=chat_id)
        except StoreFailed as error:
            telemetry.event("chat.passed_over", chat_id=str(chat_id), error=repr(error))


async def _open_calls(connection: Connection, chat_id: UUID) -> tuple[OpenCall, ...]:
    row = existing(await connection.fetchrow(SQL["select_open_calls"], chat_id), chat_id)
    return open_calls_of(row["open_calls"])


async def _actions(connection: Connection, chat_id: UUID) -> tuple[Action, ...]:
    return actions_of(await connection.fetchval(SQL["select_actions"], chat_id))


async def _waits(connection: Connection, chat_id: UUID, message_id: int) -> Waits:
    rows = await connection.fetch(SQL["select_waits"], chat_id, message_id)
    return {row["call_id"]: tuple(map(CallState, filter(_STATES.__contains__, row["waits"]))) for row in rows}


async def _sign_in_waits(connection: Connection, limit: int, owner_id: UUID | None) -> tuple[SignInWait, ...]:
    rows = await connection.fetch(SQL["select_sign_in_waits"], owner_id, limit)
    return tuple(SignInWait(*(row[name] for name in SignInWait.__struct_fields__)) for row in rows)


async def _keep_result(connection: Connection, fence: Fence, call_id: str, data: bytes) -> None:
    owner = (fence.chat_id, fence.worker_id, fence.epoch)
    row = await connection.fetchrow(SQL["keep_result"], *owner, call_id, data)
    assert row is not None
    if not row["is_held"]:
        raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over")
    if not row["is_kept"]:
        raise Moved(f"call {call_id} is not open any more")


async def _keep_prefix(connection: Connection, fence: Fence, digest: str, data: bytes) -> None:
    owner = (fence.chat_id, fence.worker_id, fence.epoch)
    if not await connection.fetchval(SQL["keep_prefix"], *owner, digest, data):
        raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over")


async def _read_prefix(connection: Connection, chat_id: UUID) -> bytes | None:
    data: bytes | None = await connection.fetchval(SQL["read_prefix"], chat_id)
    return data


async def _read_result(
    connection: Connection, chat_id: UUID, call_id: str, offset: int, limit: int
) -> ResultSlice | None:
    row = await connection.fetchrow(SQL["read_result"], chat_id, call_id, offset, limit)
    return None if row is None else ResultSlice(row["data"], row["total_bytes"])


async def _permissions(connection: Connection, owner_id: UUID, chat_ids: Sequence[UUID]) -> frozenset[str]:
    rows = await connection.fetch(SQL["permissions"], owner_id, chat_ids)
    return frozenset(row["tool"] for row in rows)


async def _list_permissions(connection: Connection, owner_id: UUID) -> tuple[Permission, ...]:
    rows = await connection.fetch(SQL["list_permissions"], owner_id, PERMISSIONS_MAX)
    return tuple(Permission(*(row[name] for name in Permission.__struct_fields__)) for row in rows)


async def _delete_permission(connection: Connection, owner_id: UUID, permission_id: UUID) -> bool:
    return await connection.fetchval(SQL["delete_permission"], owner_id, permission_id) is not None


async def _overdue_chats(connection: Connection, limit: int) -> list[UUID]:
    return [row["id"] for row in await connection.fetch(SQL["select_overdue_chats"], limit)]


async def _end_overdue(connection: Connection, chat_id: UUID) -> None:
    await connection.execute(SQL["end_overdue"], chat_id, json_of(UNREADABLE))
