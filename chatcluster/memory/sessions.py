"""``Sessions`` on a ``MemoryDatabase``."""

from __future__ import annotations

from datetime import datetime, timedelta

from chatcluster.config import Settings
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import CodeRow, SessionRow
from chatcluster.ports import Account
from chatcluster.ports.sessions import CODE_SECONDS, SESSIONS_MAX


class MemorySessions:
    def __init__(self, database: MemoryDatabase, link: Link | None = None, settings: Settings | None = None) -> None:
        self._database = database
        self._link = link or Link()
        settings = settings or Settings()
        self._idle = timedelta(hours=settings.browsers.session_idle_hours)
        self._life = timedelta(hours=settings.browsers.session_hours_max)

    async def authenticate(self, secret_digest: bytes) -> Account | None:
        async with self._link.crossing("authenticate"):
            row, now = self._database.kept.browsers.sessions.get(secret_digest), self._database.now()
            if row is None or now >= min(row.expires_at, row.last_used_at + self._idle):
                return None
            account = self._account(row)
            row.last_used_at = now
            return account

    async def open(self, secret_digest: bytes, *, token_id: str) -> Account | None:
        async with self._link.crossing("open_session"):
            return self._open(secret_digest, token_id)

    async def redeem(self, code_digest: bytes, secret_digest: bytes) -> Account | None:
        async with self._link.crossing("redeem"):
            code = self._database.kept.browsers.codes.pop(code_digest, None)
            is_good = code is not None and self._database.now() < code.expires_at
            return self._open(secret_digest, code.token_id) if code is not None and is_good else None

    async def close(self, secret_digest: bytes) -> bool:
        async with self._link.crossing("close_session"):
            return self._database.kept.browsers.sessions.pop(secret_digest, None) is not None

    async def add_code(self, code_digest: bytes, *, token_id: str) -> datetime | None:
        async with self._link.crossing("add_code"):
            if not self._is_valid(token_id):
                return None
            codes = self._database.kept.browsers.codes
            of_token = [digest for digest, code in codes.items() if code.token_id == token_id]
            for digest in of_token[: max(0, len(of_token) - SESSIONS_MAX + 1)]:
                del codes[digest]
            expires_at = self._database.now() + timedelta(seconds=CODE_SECONDS)
            codes[code_digest] = CodeRow(token_id, expires_at)
            return expires_at

    def _open(self, secret_digest: bytes, token_id: str) -> Account | None:
        if not self._is_valid(token_id):
            return None
        sessions, now = self._database.kept.browsers.sessions, self._database.now()
        of_token = [digest for digest, row in sessions.items() if row.token_id == token_id]
        for digest in of_token[: max(0, len(of_token) - SESSIONS_MAX + 1)]:
            del sessions[digest]
        row = sessions[secret_digest] = SessionRow(token_id, now, now + self._life)
        return self._account(row)

    def _is_valid(self, token_id: str) -> bool:
        row = self._database.tokens.get(token_id)
        return row is not None and (row.token.expires_at is None or row.token.expires_at > self._database.now())

    def _account(self, row: SessionRow) -> Account | None:
        if not self._is_valid(row.token_id):
            return None
        token = self._database.tokens[row.token_id].token
        account = self._database.accounts[token.user_id]
        expires_at = min(filter(None, (row.expires_at, token.expires_at)))
        idle_expires_at = row.last_used_at + self._idle
        return Account(
            account.user_id,
            account.name,
            account.admin,
            token.id,
            expires_at,
            idle_expires_at,
            token.scopes,
            self._database.seconds_to(expires_at),
        )
