"""Users and their tokens."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec


class TokenScope(StrEnum):
    """Where a token lets its user in: one word for each address that there is a door at."""

    CHATS = "chats"
    """``/api/v1``, but for what is for administrators."""
    ADMIN = "admin"
    """What is for administrators there, if the user is one."""
    OPENAI = "openai"
    AI_SDK = "ai-sdk"
    AG_UI = "ag-ui"
    MCP = "mcp"


Scopes = tuple[str, ...] | None
"""None: everywhere. A word that is no ``TokenScope`` is of another version, and lets in nowhere here."""


class Account(msgspec.Struct, frozen=True):
    user_id: UUID
    name: str
    admin: bool
    token_id: str = ""
    """The token that lets the user in, or that opened the session which does."""
    expires_at: datetime | None = None
    """When that ends by itself, None if it does not."""
    idle_expires_at: datetime | None = None
    """When a session ends if it is not used meanwhile; None for other tokens."""
    scopes: Scopes = None
    expires_in_seconds: float | None = None
    """Until ``expires_at``, by the database's clock, as of when it was asked."""

    def may(self, scope: TokenScope) -> bool:
        return self.scopes is None or scope in self.scopes


class Token(msgspec.Struct, frozen=True):
    id: str
    user_id: UUID
    user_name: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    scopes: Scopes = None


def made(token: Token) -> dict[str, object]:
    """What the log of administrators has of a token that one of them made."""
    return {"user": token.user_name, "name": token.name} | ({} if token.scopes is None else {"scopes": token.scopes})


class Accounts(Protocol):
    async def authenticate(self, token_id: str, secret_digest: bytes) -> Account | None:
        """The account of a token that exists, matches in constant time, and is not expired."""
        ...

    async def ensure_user(self, name: str, *, admin: bool) -> Account:
        """The user of that name, created if there is none. An existing user's rights are left alone."""
        ...

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
        """A new token of a user; what an administrator does (``by``) is logged with it. Raises ``NotFound``."""
        ...

    async def tokens(self) -> tuple[Token, ...]: ...

    async def revoke(self, token_id: str, *, by: Account | None = None) -> bool: ...
