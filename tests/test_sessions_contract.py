"""What every ``Sessions`` does (P9): who a cookie is, how long, and that a code opens one session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
import trio
from postgres_sessions import execute, open_session

from chatcluster import tokens
from chatcluster.config import Settings
from chatcluster.memory import MemoryAccounts, MemoryDatabase, MemorySessions
from chatcluster.ports import Accounts, Scopes, Sessions
from chatcluster.ports.sessions import SESSIONS_MAX
from chatcluster.postgres import open_database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.sessions import PostgresSessions

HOURS_IDLE, HOURS_MAX = 10.0, 100.0


@dataclass
class Site:
    """A database's accounts and sessions, one user with a token, and the means to let hours pass."""

    accounts: Accounts
    sessions: Sessions
    memory: MemoryDatabase | None
    url: str | None
    token_id: str = ""

    async def token(self, name: str = "ada", scopes: Scopes = None) -> str:
        made = tokens.generate()
        account = await self.accounts.ensure_user(name, admin=False)
        await self.accounts.add_token(
            account.user_id,
            token_id=made.token_id,
            name="",
            secret_digest=made.digest,
            expires_at=None,
            scopes=scopes,
        )
        return made.token_id

    async def session(self) -> bytes:
        secret = tokens.generate_secret().digest
        assert await self.sessions.open(secret, token_id=self.token_id) is not None
        return secret

    async def hours_pass(self, hours: float, *, unused: bool = False) -> None:
        """For all that there is; ``unused``: since each was used."""
        if self.memory is not None:
            for row in self.memory.kept.browsers.sessions.values():
                row.expires_at -= timedelta(hours=hours)
                row.last_used_at -= timedelta(hours=hours if unused else 0)
            for code in self.memory.kept.browsers.codes.values():
                code.expires_at -= timedelta(hours=hours)
            return
        assert self.url is not None
        async with (
            open_database(Settings.of(database_url=self.url)) as database,
            open_session(database, "t") as session,
        ):
            used = "last_used_at - make_interval(secs => $1)" if unused else "last_used_at"
            await execute(
                session,
                f"update sessions set expires_at = expires_at - make_interval(secs => $1), last_used_at = {used}",
                hours * 3600,
            )
            await execute(
                session,
                "update session_codes set expires_at = expires_at - make_interval(secs => $1)",
                hours * 3600,
            )


@asynccontextmanager
async def open_site(url: str | None) -> AsyncIterator[Site]:
    settings = Settings.of(session_idle_hours=HOURS_IDLE, session_hours_max=HOURS_MAX, database_url=url or "")
    if url is None:
        memory = MemoryDatabase()
        yield Site(MemoryAccounts(memory), MemorySessions(memory, settings=settings), memory, None)
        return
    async with open_database(settings) as database:
        yield Site(PostgresAccounts(database), PostgresSessions(database), None, url)


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def site(url: str | None) -> AsyncIterator[Site]:
    async with open_site(url) as site:
        site.token_id = await site.token()
        yield site


async def test_a_session_may_what_its_token_may(site: Site) -> None:
    """P9"""
    secret = tokens.generate_secret().digest
    opened = await site.sessions.open(secret, token_id=await site.token(scopes=("chats", "mcp")))
    found = await site.sessions.authenticate(secret)
    assert opened is not None
    assert found is not None
    assert opened.scopes == found.scopes == ("chats", "mcp")


async def test_a_session_is_its_tokens_user_with_the_times_at_which_it_ends(site: Site) -> None:
    secret = tokens.generate_secret().digest
    opened = await site.sessions.open(secret, token_id=site.token_id)
    found = await site.sessions.authenticate(secret)
    assert opened is not None
    assert found is not None
    assert (found.name, found.admin, found.token_id) == ("ada", False, site.token_id)
    assert (found.user_id, found.expires_at) == (opened.user_id, opened.expires_at)
    assert found.expires_at is not None
    assert found.idle_expires_at is not None
    hours = (found.expires_at - found.idle_expires_at) / timedelta(hours=1)
    assert hours == pytest.approx(HOURS_MAX - HOURS_IDLE, abs=0.1)
    assert await site.sessions.authenticate(tokens.generate_secret().digest) is None


async def test_it_ends_with_its_token_and_none_is_opened_after_that(site: Site) -> None:
    secret = await site.session()
    code = tokens.generate_secret().digest
    await site.sessions.add_code(code, token_id=site.token_id)
    await site.accounts.revoke(site.token_id)
    assert await site.sessions.authenticate(secret) is None
    assert await site.sessions.open(tokens.generate_secret().digest, token_id=site.token_id) is None
    assert await site.sessions.redeem(code, tokens.generate_secret().digest) is None
    assert await site.sessions.add_code(tokens.generate_secret().digest, token_id=site.token_id) is None
    assert await site.sessions.open(tokens.generate_secret().digest, token_id="unknown") is None


async def test_it_ends_when_it_is_closed_and_is_closed_once(site: Site) -> None:
    secret, other = await site.session(), await site.session()
    assert await site.sessions.close(secret)
    assert not await site.sessions.close(secret)
    assert await site.sessions.authenticate(secret) is None
    assert await site.sessions.authenticate(other) is not None


async def test_it_ends_when_nobody_uses_it(site: Site) -> None:
    secret = await site.session()
    await site.hours_pass(HOURS_IDLE - 0.1, unused=True)
    assert await site.sessions.authenticate(secret) is not None, "which is a use"
    await site.hours_pass(HOURS_IDLE - 0.1, unused=True)
    assert await site.sessions.authenticate(secret) is not None
    await site.hours_pass(HOURS_IDLE + 0.1, unused=True)
    assert await site.sessions.authenticate(secret) is None


async def test_it_ends_at_its_time_however_much_it_is_used(site: Site) -> None:
    secret = await site.session()
    await site.hours_pass(HOURS_MAX - 0.1)
    assert await site.sessions.authenticate(secret) is not None
    await site.hours_pass(0.2)
    assert await site.sessions.authenticate(secret) is None


async def test_a_code_opens_one_session_also_if_many_come_with_it_at_once(site: Site) -> None:
    code = tokens.generate_secret().digest
    expires_at = await site.sessions.add_code(code, token_id=site.token_id)
    assert expires_at is not None
    opened = []

    async def redeem() -> None:
        opened.append(await site.sessions.redeem(code, tokens.generate_secret().digest))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(redeem)
    assert [account.name for account in opened if account is not None] == ["ada"]
    assert await site.sessions.redeem(tokens.generate_secret().digest, tokens.generate_secret().digest) is None


async def test_a_code_that_waited_for_too_long_opens_none(site: Site) -> None:
    code, secret = tokens.generate_secret().digest, tokens.generate_secret().digest
    await site.sessions.add_code(code, token_id=site.token_id)
    await site.hours_pass(1.0)
    assert await site.sessions.redeem(code, secret) is None
    assert await site.sessions.authenticate(secret) is None


async def test_a_token_has_so_many_sessions_and_the_oldest_make_room(site: Site) -> None:
    """P10: nobody fills the table."""
    first = await site.session()
    others = [await site.session() for _ in range(SESSIONS_MAX - 1)]
    assert await site.sessions.authenticate(first) is not None
    newest = await site.session()
    assert await site.sessions.authenticate(first) is None
    for secret in (others[0], others[-1], newest):
        assert await site.sessions.authenticate(secret) is not None
