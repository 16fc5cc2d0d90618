"""``Accounts`` on a ``MemoryDatabase``."""

from __future__ import annotations

import hmac
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from chatcluster.errors import NotFound
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import TokenRow
from chatcluster.ports import Account, Scopes, Token
from chatcluster.ports.accounts import made


class MemoryAccounts:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def authenticate(self, token_id: str, secret_digest: bytes) -> Account | None:
        async with self._link.crossing("authenticate"):
            row = self._database.tokens.get(token_id)
            now = self._database.now()
            if row is None or not hmac.compare_digest(row.secret_digest, secret_digest):
                return None
            if row.token.expires_at is not None and row.token.expires_at <= now:
                return None
            row.token = msgspec.structs.replace(row.token, last_used_at=now)
            account = self._database.accounts[row.token.user_id]
            return msgspec.structs.replace(
                account,
                token_id=token_id,
                expires_at=row.token.expires_at,
                scopes=row.token.scopes,
                expires_in_seconds=self._database.seconds_to(row.token.expires_at),
            )

    async def ensure_user(self, name: str, *, admin: bool) -> Account:
        async with self._link.crossing("ensure_user"):
            for account in self._database.accounts.values():
                if account.name == name:
                    return account
            account = Account(uuid4(), name, admin)
            self._database.accounts[account.user_id] = account
            return account

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
        async with self._link.crossing("add_token"):
            account = self._database.accounts.get(user_id)
            if account is None:
                raise NotFound("there is no such user", user_id=str(user_id))
            token = Token(token_id, user_id, account.name, name, self._database.now(), None, expires_at, scopes)
            self._database.tokens[token_id] = TokenRow(token, secret_digest)
            if by is not None:
                self._database.record(by, "token.create", token_id, made(token))
            return token

    async def tokens(self) -> tuple[Token, ...]:
        async with self._link.crossing("tokens"):
            return tuple(row.token for row in self._database.tokens.values())

    async def revoke(self, token_id: str, *, by: Account | None = None) -> bool:
        async with self._link.crossing("revoke"):
            is_revoked = self._database.tokens.pop(token_id, None) is not None
            if is_revoked and by is not None:
                self._database.record(by, "token.revoke", token_id, {})
            return is_revoked
