"""``Accounts`` on Postgres: users, and their tokens by the digests of their secrets.

Who is authoritative: the row in ``tokens``. A token that is revoked or expired, by the database's clock, does
not exist for ``authenticate``; its row stays, and its ID is never used again. The digest is compared here, in
constant time. When a token was last used is noted at most once a minute, so that requests do not cost a write.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from uuid import UUID

from chatcluster.errors import NotFound
from chatcluster.ports import Account, Scopes, Token
from chatcluster.ports.accounts import made
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.administration import record
from chatcluster.postgres.queries import load_queries

SQL = load_queries("accounts.sql")


class PostgresAccounts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def authenticate(self, token_id: str, secret_digest: bytes) -> Account | None:
        return await self._database.autocommit(_authenticate, token_id, secret_digest)

    async def ensure_user(self, name: str, *, admin: bool) -> Account:
        return await self._database.autocommit(_ensure_user, name, admin)

    async def add_token(
        self,
        user_id: UUID,
        *,
        token_id: str,
        name: str,
        secret_digest: bytes,
        expires_at: datetime | None,
        scopes: Scopes = None,
        by: Account | None = None,
    ) -> Token:
        values = (token_id, user_id, name, secret_digest, expires_at, None if scopes is None else list(scopes))
        return await self._database.transaction(_add_token, values, by)

    async def tokens(self) -> tuple[Token, ...]:
        return await self._database.autocommit(_tokens)

    async def revoke(self, token_id: str, *, by: Account | None = None) -> bool:
        return await self._database.transaction(_revoke, token_id, by)


async def _authenticate(connection: Connection, token_id: str, secret_digest: bytes) -> Account | None:
    row = await connection.fetchrow(SQL["select_token"], token_id)
    if row is None or not hmac.compare_digest(row["secret_digest"], secret_digest):
        return None
    if row["note_use"]:
        await connection.execute(SQL["note_use"], token_id)
    return Account(
        row["user_id"],
        row["name"],
        row["admin"],
        token_id,
        row["expires_at"],
        None,
        scopes_of(row),
        row["expires_in_seconds"],
    )


def scopes_of(row: Row) -> Scopes:
    return None if row["scopes"] is None else tuple(row["scopes"])


async def _ensure_user(connection: Connection, name: str, admin: bool) -> Account:
    row = await connection.fetchrow(SQL["select_user"], name)
    if row is None:
        await connection.execute(SQL["insert_user"], name, admin)
        row = await connection.fetchrow(SQL["select_user"], name)
    assert row is not None, "users are not deleted"
    return Account(row["id"], row["name"], row["admin"])


async def _add_token(connection: Connection, values: tuple[object, ...], by: Account | None) -> Token:
    row = await connection.fetchrow(SQL["insert_token"], *values)
    if row is None:
        raise NotFound("there is no such user", user_id=str(values[1]))
    token = _token(row)
    if by is not None:
        await record(connection, by, "token.create", token.id, made(token))
    return token


async def _tokens(connection: Connection) -> tuple[Token, ...]:
    return tuple(_token(row) for row in await connection.fetch(SQL["list_tokens"]))


async def _revoke(connection: Connection, token_id: str, by: Account | None) -> bool:
    is_revoked = await connection.fetchval(SQL["revoke"], token_id) is not None
    if is_revoked and by is not None:
        await record(connection, by, "token.revoke", token_id, {})
    return is_revoked


def _token(row: Row) -> Token:
    return Token(
        id=row["id"],
        user_id=row["user_id"],
        user_name=row["user_name"],
        name=row["name"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
        expires_at=row["expires_at"],
        scopes=scopes_of(row),
    )
