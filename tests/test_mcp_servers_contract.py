"""What every ``McpServers`` does: servers by their slugs, sign-ins that work once, grants that are refreshed once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from conftest import execute_sql
from msgspec.structs import replace

from chatcluster.config import Settings
from chatcluster.errors import InvalidRequest
from chatcluster.mcp_errors import McpServerChanged, McpServerNotFound, McpServersFull, SlugTaken
from chatcluster.memory import MemoryDatabase, MemoryMcpServers, MemoryStore
from chatcluster.ports import (
    MCP_SERVERS_MAX,
    ApiKeyAuth,
    Approval,
    Availability,
    Effect,
    Grant,
    Login,
    McpServer,
    McpServers,
    McpSettings,
    Permission,
    Store,
    ToolPolicy,
    checked_choice,
)
from chatcluster.postgres import open_database
from chatcluster.postgres.mcp_servers import PostgresMcpServers
from chatcluster.postgres.store import PostgresStore

ALICE, BOB = UUID(int=1), UUID(int=2)
STATE = bytes(32)


@dataclass
class World:
    servers: McpServers
    later: Callable[[float], Awaitable[None]]
    """Let so many seconds pass for logins, grants and claims."""
    permit: Callable[[str], Awaitable[None]]
    """Alice is not asked about this tool again."""
    store: Store

    async def add(self, slug: str = "files", **fields: Any) -> McpServer:
        return await self.servers.add(server(slug, **fields))

    async def granted(self, of: McpServer, user_id: UUID = ALICE, seconds_left: float | None = 60.0) -> Grant:
        await self.servers.keep_grant(
            Grant(server_id=of.id, user_id=user_id, sealed=b"tokens", seconds_left=seconds_left)
        )
        return await self.grant(of, user_id)

    async def grant(self, of: McpServer, user_id: UUID = ALICE) -> Grant:
        found = await self.servers.grant(of.id, user_id)
        assert found is not None
        return found


def server(slug: str = "files", *, sealed: bytes | None = None, **settings: Any) -> McpServer:
    return McpServer(
        id=uuid4(),
        slug=slug,
        settings=McpSettings(url="http://127.0.0.1:9/mcp", **settings),
        sealed=sealed,
    )


@asynccontextmanager
async def memory_world() -> AsyncIterator[World]:
    clock = trio.testing.MockClock()
    database = MemoryDatabase(clock=lambda: offset[0])
    offset = [clock.current_time()]

    async def later(seconds: float) -> None:
        offset[0] += seconds

    async def permit(tool: str) -> None:
        permission = Permission(uuid4(), tool, None, database.now(), database.now() + timedelta(days=1))
        database.kept.permissions.setdefault(ALICE, {})[tool, None] = permission

    yield World(MemoryMcpServers(database), later, permit, MemoryStore(database))


@asynccontextmanager
async def postgres_world(url: str) -> AsyncIterator[World]:
    async def later(seconds: float) -> None:
        ago = f"interval '{seconds} seconds'"
        await trio.to_thread.run_sync(
            execute_sql,
            url,
            f"update mcp_logins set expires_at = expires_at - {ago}",
            f"update mcp_grants set expires_at = expires_at - {ago}, refreshing_until = refreshing_until - {ago}",
        )

    async def permit(tool: str) -> None:
        row = f"('{ALICE}', '{tool}', now() + interval '1 day')"
        insert = f"insert into tool_permissions (user_id, tool, expires_at) values {row}"
        await trio.to_thread.run_sync(execute_sql, url, insert)

    async with open_database(Settings.of(database_url=url)) as database:
        yield World(PostgresMcpServers(database), later, permit, PostgresStore(database))


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[World]:
    async with memory_world() if url is None else postgres_world(url) as world:
        yield world


# --- servers ----------------------------------------------------------------------------------


async def test_a_server_is_read_as_it_was_added(world: World) -> None:
    settings = {
        "auth": ApiKeyAuth("X-Key"),
        "allow": ("a", "b"),
        "tools": {"a": ToolPolicy(approval=Approval.ASK, effect=Effect.READ)},
        "availability": Availability.ALWAYS,
        "description": "Akten, ヘルプ",
    }
    added = await world.add("files", sealed=b"secret", **settings)
    assert await world.servers.servers() == (added,)
    assert (added.settings.auth, added.settings.allow, added.settings.tools) == (
        ApiKeyAuth("X-Key"),
        ("a", "b"),
        settings["tools"],
    )
    assert added.revision == 1
    assert None not in (added.created_at, added.updated_at, added.secrets_at)


async def test_servers_are_listed_by_slug(world: World) -> None:
    for slug in ("c", "a", "b"):
        await world.add(slug)
    assert [found.slug for found in await world.servers.servers()] == ["a", "b", "c"]


async def test_two_servers_never_have_one_slug(world: World) -> None:
    await world.add("files")
    other = await world.add("other")
    with pytest.raises(SlugTaken):
        await world.add("files")
    with pytest.raises(SlugTaken):
        await world.servers.change(replace(other, slug="files"))
    assert [found.slug for found in await world.servers.servers()] == ["files", "other"]


async def test_there_are_so_many_servers_and_no_more(world: World) -> None:
    for number in range(MCP_SERVERS_MAX):
        await world.add(f"s{number}")
    with pytest.raises(McpServersFull):
        await world.add("one-more")


async def test_of_two_changes_of_one_revision_one_is_told_to_read_again(world: World) -> None:
    added = await world.add()
    changed = await world.servers.change(replace(added, settings=replace(added.settings, enabled=False)))
    assert (changed.revision, changed.settings.enabled) == (2, False)
    with pytest.raises(McpServerChanged):
        await world.servers.change(replace(added, settings=replace(added.settings, trusted=True)))
    assert await world.servers.servers() == (changed,)


async def test_the_secrets_date_is_that_of_their_last_change(world: World) -> None:
    added = await world.add(sealed=b"one")
    renamed = await world.servers.change(replace(added, slug="renamed"))
    assert renamed.secrets_at == added.secrets_at
    without = await world.servers.change(replace(renamed, sealed=None))
    assert without.secrets_at is None


async def test_what_is_removed_cannot_be_changed_and_takes_its_grants_along(world: World) -> None:
    added = await world.add()
    await world.granted(added)
    assert await world.servers.remove("files")
    assert not await world.servers.remove("files")
    with pytest.raises(McpServerNotFound):
        await world.servers.change(added)
    assert await world.servers.grants(ALICE) == ()
    assert not await world.servers.keep_grant(Grant(server_id=added.id, user_id=ALICE, sealed=b"late"))


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"url": "http://127.0.0.1:9/other"}, (True, True)),
        ({"url": "http://127.0.0.1:10/mcp"}, (False, False)),
        ({"url": "https://127.0.0.1:9/mcp"}, (False, False)),
        ({"slug": "papers"}, (True, False)),
        ({"approval": Approval.ASK}, (True, True)),
        ({}, (False, False)),
    ],
)
async def test_what_users_gave_to_a_server_is_for_no_other_one(
    world: World, change: dict[str, Any], stays: tuple[bool, bool]
) -> None:
    """Another one may come to its place, or to its name. ``change`` {}: it is removed."""
    known = await world.add("files")
    await world.granted(known)
    await world.servers.begin_login(Login(state_digest=STATE, server_id=known.id, user_id=ALICE, sealed=b""), seconds=9)
    others = ("files-2__read", "file__read", "workspace/files__read")
    for tool in ("files__read", *others):
        await world.permit(tool)
    settings = {name: value for name, value in change.items() if name != "slug"}
    if change:
        changed = replace(known, slug=change.get("slug", known.slug), settings=replace(known.settings, **settings))
        await world.servers.change(changed)
    else:
        await world.servers.remove(known.slug)
    grants, permissions = stays
    assert (await world.servers.grant(known.id, ALICE) is not None) is grants
    assert (await world.servers.take_login(STATE) is not None) is grants
    allowed = await world.store.permissions(ALICE)
    assert allowed == {*others, *(("files__read",) if permissions else ())}


async def test_a_row_that_cannot_be_read_costs_its_server_and_no_other(database_url: str) -> None:
    async with postgres_world(database_url) as world:
        await world.add("fine")
        await world.add("odd")
        await trio.to_thread.run_sync(
            execute_sql, database_url, """update mcp_servers set settings = '{"url": 7}' where slug = 'odd'"""
        )
        assert [found.slug for found in await world.servers.servers()] == ["fine"]


# --- signing in -------------------------------------------------------------------------------


async def test_a_sign_in_comes_back_once(world: World) -> None:
    login = Login(state_digest=STATE, server_id=(await world.add()).id, user_id=ALICE, sealed=b"verifier")
    await world.servers.begin_login(login, seconds=60)
    assert await world.servers.take_login(STATE) == login
    assert await world.servers.take_login(STATE) is None


async def test_a_sign_in_begins_once_with_a_state(world: World) -> None:
    login = Login(state_digest=STATE, server_id=(await world.add()).id, user_id=ALICE, sealed=b"verifier")
    assert await world.servers.begin_login(login, seconds=60)
    assert not await world.servers.begin_login(replace(login, user_id=BOB, sealed=b"another"), seconds=600)
    assert await world.servers.take_login(STATE) == login


async def test_a_sign_in_past_its_time_is_none(world: World) -> None:
    login = Login(state_digest=STATE, server_id=(await world.add()).id, user_id=ALICE, sealed=b"verifier")
    await world.servers.begin_login(login, seconds=60)
    await world.later(61)
    assert await world.servers.take_login(STATE) is None


async def test_a_sign_in_at_a_server_that_is_gone_does_not_begin(world: World) -> None:
    with pytest.raises(McpServerNotFound):
        await world.servers.begin_login(
            Login(state_digest=STATE, server_id=uuid4(), user_id=ALICE, sealed=b""), seconds=60
        )


# --- grants -----------------------------------------------------------------------------------


async def test_each_user_has_an_own_grant(world: World) -> None:
    added = await world.add()
    grant = await world.granted(added, ALICE)
    assert grant.sealed == b"tokens"
    assert grant.seconds_left == pytest.approx(60, abs=5)
    assert await world.servers.grant(added.id, BOB) is None
    assert [found.server_id for found in await world.servers.grants(ALICE)] == [added.id]


async def test_a_grant_that_is_refreshed_has_a_new_revision_and_the_old_one_is_refreshed_no_more(world: World) -> None:
    grant = await world.granted(await world.add())
    assert await world.servers.keep_grant(replace(grant, sealed=b"new"))
    assert not await world.servers.keep_grant(replace(grant, sealed=b"newer"))
    fresh = await world.servers.grant(grant.server_id, ALICE)
    assert fresh is not None
    assert (fresh.sealed, fresh.revision) == (b"new", 2)


async def test_one_refreshes_and_the_claim_ends_by_itself(world: World) -> None:
    grant = await world.granted(await world.add())
    assert await world.servers.claim_refresh(grant, seconds=15)
    assert not await world.servers.claim_refresh(grant, seconds=15)
    await world.later(16)
    assert await world.servers.claim_refresh(grant, seconds=15)


async def test_a_refresh_ends_the_claim(world: World) -> None:
    added = await world.add()
    grant = await world.granted(added)
    await world.servers.claim_refresh(grant, seconds=15)
    await world.servers.keep_grant(replace(grant, sealed=b"new"))
    assert await world.servers.claim_refresh(await world.grant(added), seconds=15)


async def test_a_refused_grant_is_refused_until_the_next_sign_in(world: World) -> None:
    added = await world.add()
    grant = await world.granted(added)
    assert await world.servers.refuse_grant(grant)
    assert not await world.servers.refuse_grant(grant)
    assert (await world.grant(added)).refused
    assert not (await world.granted(added)).refused


async def test_a_grant_that_is_dropped_is_gone(world: World) -> None:
    added = await world.add()
    await world.granted(added)
    assert await world.servers.drop_grant(added.id, ALICE)
    assert not await world.servers.drop_grant(added.id, ALICE)
    assert await world.servers.grants(ALICE) == ()


# --- what a chat may name ---------------------------------------------------------------------


async def test_a_chat_may_name_what_its_owner_may_use_and_nothing_else(world: World) -> None:
    await world.add("files")
    await world.add("away", enabled=False)
    await world.add("off", availability=Availability.OFF)
    await world.add("always", availability=Availability.ALWAYS)
    assert await checked_choice(world.servers, ["files", "always", "files"]) == ("files", "always")
    assert await checked_choice(world.servers, []) == ()
    for slug in ("away", "off", "unknown"):
        with pytest.raises(McpServerNotFound):
            await checked_choice(world.servers, ["files", slug])
    with pytest.raises(InvalidRequest):
        await checked_choice(world.servers, [f"s{number}" for number in range(33)])
