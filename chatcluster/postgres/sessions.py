"""``Sessions`` on Postgres: rows by the digests of secrets.

Who is authoritative: the row, together with that of its token, in each look. Each call is one statement, so a code is
used by one session at most, on whatever replica, and a session is there or not. All time is the database's.
"""

from __future__ import annotations

from datetime import datetime

from chatcluster.ports import Account
from chatcluster.ports.sessions import CODE_SECONDS, SESSIONS_MAX
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.accounts import scopes_of
from chatcluster.postgres.queries import load_queries

SQL = load_queries("sessions.sql")


class PostgresSessions:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle_hours = database.settings.browsers.session_idle_hours
        self._hours_max = database.settings.browsers.session_hours_max

    async def authenticate(self, secret_digest: bytes) -> Account | None:
        return await self._database.autocommit(_authenticate, secret_digest, self._idle_hours)

    async def open(self, secret_digest: bytes, *, token_id: str) -> Account | None:
        return await self._opened("open", secret_digest, token_id)

    async def redeem(self, code_digest: bytes, secret_digest: bytes) -> Account | None:
        return await self._opened("redeem", secret_digest, code_digest)

    async def _opened(self, query: str, secret_digest: bytes, allowed_by: str | bytes) -> Account | None:
        values = (secret_digest, self._idle_hours, self._hours_max, SESSIONS_MAX, allowed_by)
        return await self._database.autocommit(_open, query, values)

    async def close(self, secret_digest: bytes) -> bool:
        return await self._database.autocommit(_close, secret_digest)

    async def add_code(self, code_digest: bytes, *, token_id: str) -> datetime | None:
        return await self._database.autocommit(_add_code, code_digest, token_id)


async def _authenticate(connection: Connection, secret_digest: bytes, idle_hours: float) -> Account | None:
    row = await connection.fetchrow(SQL["select_session"], secret_digest, idle_hours)
    if row is not None and row["note_use"]:
        await connection.execute(SQL["note_use"], secret_digest)
    return _account(row)


async def _open(connection: Connection, query: str, values: tuple[object, ...]) -> Account | None:
    return _account(await connection.fetchrow(SQL[query], *values))


async def _close(connection: Connection, secret_digest: bytes) -> bool:
    return await connection.fetchval(SQL["close"], secret_digest) is not None


async def _add_code(connection: Connection, code_digest: bytes, token_id: str) -> datetime | None:
    expires_at: datetime | None = await connection.fetchval(
        SQL["add_code"], code_digest, token_id, CODE_SECONDS, SESSIONS_MAX
    )
    return expires_at


def _account(row: Row | None) -> Account | None:
    if row is None:
        return None
    return Account(
        row["user_id"],
        row["name"],
        row["admin"],
        row["token_id"],
        row["expires_at"],
        row["idle_expires_at"],
        scopes_of(row),
        row["expires_in_seconds"],
    )
