"""How a connection is made: what it tells the server, and how soon its socket notices that the server is out of reach.

A database or a role may have defaults that change what statements mean, or end them. Each connection is given what
our statements are written for, so that those do not matter; ``row_security`` is off for the same reason: a policy that
would hide rows from us is an error then. But a database that is read only by default has a reason for it: it is full,
or another one has taken over. It is obeyed. Behind a transaction pooler (the direct URL is another one, or off) nothing
can be set like that: there ``migrate.py`` refuses what does not fit, and a transaction begins with what it needs. What
only a superuser may set is refused everywhere.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, Protocol

import asyncpg

from chatcluster.errors import ConfigError, StoreRefused
from chatcluster.postgres import url as postgres_url
from chatcluster.postgres.translation import LOST, RAISED, ReportingClosed
from chatcluster.setting_sections import Servers

APPLICATION = "chatcluster"
"""The first word of the name that a session has on the server; the next are its purpose."""
TRANSACTIONS = "transactions"
"""What the pool of a replica is for."""
CLOSE_SECONDS_MAX = 0.5
LOCK_SECONDS_MAX = 1.0
"""The wait for a row's lock. Below the statement timeout, as that wait is no statement's fault."""
IDLE_IN_TRANSACTION_SECONDS_MAX = 3.0
"""The server ends a silent transaction: a frozen process must not keep a chat's lock for longer than its lease."""

UNREACHABLE_SECONDS = 2
CLIENT_KEEPALIVE = (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2))
SERVER_KEEPALIVE = {
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "5000",
}
"""The server's side of the same: it lets go of the locks of a client that it cannot reach any more."""

MEANING = {
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "client_min_messages": "warning",
    "row_security": "off",
    "exit_on_error": "off",
    "gin_fuzzy_search_limit": "0",
    "quote_all_identifiers": "off",
    "plan_cache_mode": "auto",
    "jit": "off",
    "idle_session_timeout": "0",
}
"""What our statements are written for."""


class Row(Protocol):
    def __getitem__(self, key: str | int, /) -> Any: ...


class Connection(Protocol):
    """What a transaction may do: one statement with ``$1``-style arguments at a time."""

    async def execute(self, query: str, *args: object) -> str: ...

    async def fetch(self, query: str, *args: object) -> Sequence[Row]: ...

    async def fetchrow(self, query: str, *args: object) -> Row | None: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...


def is_pooled(servers: Servers, url: str) -> bool:
    """Whether ``url`` leads to a transaction pooler."""
    return servers.direct_url != servers.database_url and url == servers.database_url


async def connect(servers: Servers, purpose: str, url: str, *, lasting: bool = False) -> asyncpg.Connection:
    """A connection to ``url``. A ``lasting`` one has no limits of time on the server's side."""
    target = postgres_url.parse(url)
    pooled = is_pooled(servers, url)
    told = {} if pooled else MEANING | SERVER_KEEPALIVE | _limits(servers, lasting=lasting)
    try:
        connection = await asyncpg.connect(
            target.dsn,
            timeout=target.connect_seconds,
            server_settings={**target.server_settings, **told, "application_name": f"{APPLICATION} {purpose}"},
            statement_cache_size=0 if pooled else 200,
            max_cached_statement_lifetime=0,
            **target.tls,
        )
    except asyncpg.ClientConfigurationError as error:
        raise ConfigError(f"the Postgres URL cannot be used: {error}") from None
    except OSError:  # a certificate that nobody vouches for is a ValueError as well
        raise
    except (ValueError, OverflowError, KeyError):  # its text may be a part of the password
        raise ConfigError(postgres_url.MALFORMED) from None
    except (asyncpg.ProtocolViolationError, asyncpg.SyntaxOrAccessError, asyncpg.DataError) as error:
        raise StoreRefused(f"Postgres: {error}{_hint(error)}") from error
    _notice_loss(connection)
    if not pooled:
        await _lift_transaction_timeout(connection)
    return connection


def _limits(servers: Servers, *, lasting: bool) -> dict[str, str]:
    limits_seconds = {
        "statement_timeout": 0.0 if lasting else servers.statement_timeout_seconds,
        "lock_timeout": 0.0 if lasting else min(LOCK_SECONDS_MAX, servers.statement_timeout_seconds / 2),
        "idle_in_transaction_session_timeout": 0.0 if lasting else IDLE_IN_TRANSACTION_SECONDS_MAX,
    }
    return {name: f"{seconds * 1000:.0f}" for name, seconds in limits_seconds.items()}


def _hint(error: Exception) -> str:
    """Poolers take few settings at the start of a connection; Postgres takes none that it does not know."""
    if "startup parameter" not in str(error):
        return ""
    return ": this is a pooler; give the URL of Postgres itself as the database-direct-url, or 'off'"


def _notice_loss(connection: asyncpg.Connection) -> None:
    """What is sent and not acknowledged, and an idle path that is gone, end the connection soon."""
    sock = connection._transport.get_extra_info("socket")
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*CLIENT_KEEPALIVE, ("TCP_USER_TIMEOUT", UNREACHABLE_SECONDS * 1000)):
        if hasattr(socket, name):  # not on every system
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _lift_transaction_timeout(connection: asyncpg.Connection) -> None:
    """Older servers do not know it, so it cannot be told while connecting."""
    if connection.get_server_version().major < 17:
        return
    try:
        with ReportingClosed(connection):
            await connection.execute("SET transaction_timeout = 0")
    except BaseException:
        connection.terminate()
        raise


async def close(connection: asyncpg.Connection) -> None:
    """Close in order if the server takes part in time: it then knows at once, and lets go of all locks."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await connection.close()
    except RAISED:
        connection.terminate()


async def close_after(connection: asyncpg.Connection, error: BaseException) -> None:
    """Close a connection on which ``error`` happened: one that is lost answers nothing."""
    if isinstance(error, LOST):
        connection.terminate()
    else:
        await close(connection)
