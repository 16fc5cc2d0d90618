"""Users and their tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec


class Account(msgspec.Struct, frozen=True):
    user_id: UUID
    name: str
    admin: bool
    token_id: str = ""
    """The token that lets the user in, or that opened the session which does."""
    expires_at: datetime | None = None
    """When that ends by itself, None if it does not."""
    idle_expires_at: datetime | None = None
    """Of a session: when it ends if it is not used meanwhile."""


class Token(msgspec.Struct, frozen=True):
    id: str
    user_id: UUID
    user_name: str
    name: str
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None


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
        by: Account | None = None,
    ) -> Token:
        """A new token of a user; what an administrator does (``by``) is logged with it. Raises ``NotFound``."""
        ...

    async def tokens(self) -> tuple[Token, ...]: ...

    async def revoke(self, token_id: str, *, by: Account | None = None) -> bool: ...
