"""The tables of servers of tools, as ``MemoryDatabase`` has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from chatcluster.ports import Grant, Login, McpServer


@dataclass(slots=True)
class LoginRow:
    login: Login
    expires_at: float


@dataclass(slots=True)
class GrantRow:
    grant: Grant
    expires_at: float | None
    refreshing_until: float | None = None


@dataclass(slots=True)
class McpTables:
    servers: dict[UUID, McpServer] = field(default_factory=dict)
    logins: dict[bytes, LoginRow] = field(default_factory=dict)
    """By the digests of their states."""
    grants: dict[tuple[UUID, UUID], GrantRow] = field(default_factory=dict)
    """By server and user."""
