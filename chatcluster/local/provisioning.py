"""What a cluster needs before its first replica, and what an administrator does without one: schema and tokens.

Everything here works on the database itself, so it needs no running replica and no token. Replicas keep a
token that they have accepted for a few seconds; a revocation is announced to them over Redis where that is
known, and otherwise takes effect when their memory of it ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chatcluster import telemetry, tokens, transitions
from chatcluster.config import Settings
from chatcluster.errors import SchemaError, UnavailableError
from chatcluster.local import local_cluster
from chatcluster.ports import Token
from chatcluster.postgres import Database, open_database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.identity import read_cluster_id, renew_cluster_id
from chatcluster.postgres.migrate import Migration, migrate
from chatcluster.redis.pubsub import publish_now

ADMINISTRATOR = "admin"


async def provision(settings: Settings, data_dir: Path) -> str:
    """Bring the schema up to date, and return an administrator's token that works.

    It is the one in the data directory if the database still accepts that; otherwise it is made and kept there.
    Raises ``SchemaError`` and ``StoreUnavailable``.
    """
    await migrate_schema(settings)
    async with _open_accounts(settings) as accounts:
        kept = tokens.parse(local_cluster.read_token(data_dir) or "")
        if kept is not None and await accounts.authenticate(kept.token_id, kept.digest) is not None:
            token = local_cluster.read_token(data_dir)
            assert token is not None
            return token
        issued = await transitions.issue_token(accounts, user=ADMINISTRATOR, admin=True, name="chatcluster up")
        local_cluster.write_token(data_dir, issued.plaintext)
        return issued.plaintext


async def migrate_schema(settings: Settings, *, say: Callable[[str], None] | None = None) -> tuple[Migration, ...]:
    """Apply the migrations that the database lacks, and return them. ``say`` gets a line when that has to wait."""
    url = settings.servers.direct_url or settings.servers.database_url
    return await (migrate(url) if say is None else migrate(url, say=say))


async def create_token(
    settings: Settings,
    *,
    user: str,
    admin: bool,
    name: str,
    scopes: Sequence[str] | None = None,
    lasting: timedelta | None = None,
) -> str:
    """A new token for a user, who is created if need be: its plain text, which is stored nowhere.

    Raises ``InvalidRequest`` for what is no name.
    """
    expires_at = None if lasting is None else datetime.now(UTC) + lasting
    async with _open_accounts(settings) as accounts:
        issued = await transitions.issue_token(
            accounts, user=user, admin=admin, name=name, scopes=scopes, expires_at=expires_at
        )
        return issued.plaintext


async def list_tokens(settings: Settings) -> tuple[Token, ...]:
    async with _open_accounts(settings) as accounts:
        return await accounts.tokens()


async def revoke_token(settings: Settings, token_id: str) -> bool:
    """False if there is no such token."""
    announcements: list[tuple[str, bytes]] = []
    async with open_database(settings) as database:
        revoked = await transitions.revoke_token(
            PostgresAccounts(database), token_id, publish=lambda *announcement: announcements.append(announcement)
        )
        if announcements and settings.servers.redis_url:
            await _announce(database, settings.servers.redis_url, announcements)
    return revoked


async def _announce(database: Database, redis_url: str, announcements: Sequence[tuple[str, bytes]]) -> None:
    try:
        await publish_now(redis_url, await read_cluster_id(database), announcements)
    except (UnavailableError, SchemaError) as error:
        telemetry.event("token.revocation_not_announced", error=str(error))


async def new_cluster_id(settings: Settings) -> str:
    """Make the cluster another one than that of which its database is a clone; the ID that it has then."""
    async with open_database(settings) as database:
        return await renew_cluster_id(database)


@asynccontextmanager
async def _open_accounts(settings: Settings) -> AsyncIterator[PostgresAccounts]:
    async with open_database(settings) as database:
        yield PostgresAccounts(database)
