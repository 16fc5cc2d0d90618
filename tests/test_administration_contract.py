"""What administrators see and do, in every ``Administration``: takeovers, all chats, users, drains, the log of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from contract_worlds import OWNER, World, fence_of, open_world
from msgspec.structs import replace

from chatcluster import tokens
from chatcluster.chat import DRAINED, RELEASED, Interrupt, Release
from chatcluster.errors import ChatNotFound, ProviderInUse
from chatcluster.mcp_administration import McpAdministration
from chatcluster.mcp_errors import McpServerNotFound, SlugTaken
from chatcluster.memory import MemoryMcpServers, MemoryModels
from chatcluster.memory.administration import MemoryAdministration
from chatcluster.model_admin import ModelAdministration
from chatcluster.models import ModelChange, ModelEntry, NewProvider, ProviderChange
from chatcluster.ports import Account, BearerAuth, McpServers, McpSettings, Models
from chatcluster.ports.administration import Administration, ChatFilter, Takeover, TakeoverFilter
from chatcluster.postgres.administration import PostgresAdministration
from chatcluster.postgres.mcp_servers import PostgresMcpServers
from chatcluster.postgres.models import PostgresModels
from chatcluster.secrets import Keyring, new_key

LAST = 2**63 - 1
ALL = TakeoverFilter()
KEY = "sk-0123456789abcdef"


@dataclass
class Place:
    world: World
    admin: Administration
    models: Models
    mcp_servers: McpServers

    async def takeovers(self, wanted: TakeoverFilter = ALL, *, before: int = LAST) -> tuple[Takeover, ...]:
        return await self.admin.takeovers(wanted, before=before, limit=50)


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def place(url: str | None) -> AsyncIterator[Place]:
    async with open_world(url) as world:
        database = world.store._database  # type: ignore[attr-defined]
        if url is None:
            yield Place(world, MemoryAdministration(database), MemoryModels(database), MemoryMcpServers(database))
        else:
            ports = (PostgresAdministration(database), PostgresModels(database), PostgresMcpServers(database))
            yield Place(world, *ports)


async def test_a_burial_is_logged_and_completed_by_the_claim_that_takes_the_chat_up(place: Place) -> None:
    world = place.world
    a, b = await world.worker(), await world.worker()
    chat_id = await world.chat("hello")
    await world.claim(a)
    assert await place.takeovers() == (), "a first claim is no takeover"
    await world.registry.bury(a, None)
    (freed,) = await place.takeovers()
    assert (freed.chat_id, freed.cause, freed.from_worker, freed.from_name) == (chat_id, "takeover", a, "replica")
    assert (freed.to_worker, freed.to_name, freed.claimed_at, freed.gap_ms) == (None, None, None, None)
    await world.claim(b)
    (taken,) = await place.takeovers()
    assert (taken.id, taken.to_worker, taken.to_name) == (freed.id, b, "replica")
    assert taken.claimed_at is not None
    assert taken.gap_ms == int((taken.claimed_at - taken.freed_at).total_seconds() * 1000)


async def test_a_chat_that_is_interrupted_meanwhile_is_taken_over_all_the_same(place: Place) -> None:
    world = place.world
    a, b = await world.worker(), await world.worker()
    chat_id = await world.chat("hello")
    await world.claim(a)
    await world.registry.bury(a, None)
    await world.store.apply(chat_id, Interrupt(), owner_id=OWNER)
    await world.claim(b)
    (taken,) = await place.takeovers()
    assert (taken.cause, taken.to_worker) == ("takeover", b)
    assert (await world.store.get(chat_id)).cause == "claim"


@pytest.mark.parametrize("how", ["released", "left behind"])
async def test_a_drain_is_logged_however_it_lets_go(place: Place, how: str) -> None:
    world = place.world
    a, b = await world.worker(), await world.worker()
    chat_id = await world.chat("hello")
    claimed = (await world.claim(a)).chat
    if how == "released":
        await world.store.commit(fence_of(claimed), Release(DRAINED), known=claimed)
    else:
        await world.registry.retire(a)
    await world.claim(b)
    (drained,) = await place.takeovers()
    assert (drained.chat_id, drained.cause, drained.from_worker, drained.to_worker) == (chat_id, "drain", a, b)


async def test_a_chat_that_gives_way_is_no_takeover(place: Place) -> None:
    world = place.world
    a, b = await world.worker(), await world.worker()
    await world.chat("hello")
    claimed = (await world.claim(a)).chat
    await world.store.commit(fence_of(claimed), Release(RELEASED), known=claimed)
    await world.claim(b)
    assert await place.takeovers() == ()


async def test_takeovers_are_filtered_and_paged_the_newest_first(place: Place) -> None:
    world = place.world
    workers, chats = [], []
    for _ in range(3):
        workers.append(await world.worker())
        chats.append(await world.chat("hello"))
        await world.claim(workers[-1])
    for worker in workers:
        await world.registry.bury(worker, None)
    found = await place.takeovers()
    assert [one.chat_id for one in found] == chats[::-1]
    assert await place.takeovers(before=found[0].id) == found[1:]
    assert await place.takeovers(TakeoverFilter(chat_id=chats[1])) == (found[1],)
    assert await place.takeovers(TakeoverFilter(worker_id=workers[2])) == (found[0],)
    assert await place.takeovers(TakeoverFilter(cause="drain")) == ()
    assert len(await place.admin.takeovers(ALL, before=LAST, limit=2)) == 2


async def test_chats_of_all_users_are_filtered_and_paged(place: Place) -> None:
    world = place.world
    ada = await world.accounts.ensure_user("ada", admin=False)
    mine = await world.create(owner_id=ada.user_id, title="Mine")
    worker = await world.worker()
    running = await world.chat("hello")
    await world.claim(worker)
    pending = await world.chat("more")

    async def ids(after: UUID | None = None, limit: int = 50, **wanted: object) -> list[UUID]:
        chats = await place.admin.chats(ChatFilter(**wanted), after=after, limit=limit)  # type: ignore[arg-type]
        return [one.chat.id for one in chats]

    assert await ids() == [pending, running, mine.chat.id]
    assert await ids(limit=1) == [pending]
    assert await ids(after=pending) == [running, mine.chat.id]
    assert await ids(user="ada") == [mine.chat.id]
    assert await ids(status="pending") == [pending]
    assert await ids(status="running") == [running]
    assert await ids(worker_id=worker) == [running]
    assert await ids(archived=True) == []
    assert await ids(words="MIN") == [mine.chat.id]
    (one,) = await place.admin.chats(ChatFilter(user="ada"), after=None, limit=1)
    assert (one.user, one.chat.owner_id) == ("ada", ada.user_id)
    with pytest.raises(ChatNotFound):
        await ids(after=uuid4())


async def test_users_are_listed_by_name_with_what_they_have(place: Place) -> None:
    world = place.world
    for name in ("cleo", "ada", "bob"):
        account = await world.accounts.ensure_user(name, admin=name == "cleo")
    await add_token(world, account)
    await world.create(owner_id=account.user_id)
    users = await place.admin.users(after="", limit=50)
    assert [user.name for user in users] == ["ada", "bob", "cleo"]
    assert [(user.admin, user.chats, user.tokens) for user in users] == [(False, 0, 0), (False, 1, 1), (True, 0, 0)]
    assert [user.name for user in await place.admin.users(after="ada", limit=1)] == ["bob"]


async def test_what_administrators_do_is_logged_with_it_and_what_fails_is_not(place: Place) -> None:
    world = place.world
    root = await world.accounts.ensure_user("root", admin=True)
    token_id = await add_token(world, root, by=root)
    await add_token(world, root)
    assert await world.accounts.revoke(token_id, by=root)
    assert not await world.accounts.revoke(token_id, by=root)
    worker = await world.worker()
    assert await place.admin.request_drain(worker, root)
    assert not await place.admin.request_drain(uuid4(), root)
    entries = await place.admin.audit(before=LAST, limit=50)
    assert [(entry.action, entry.target) for entry in entries] == [
        ("replica.drain", str(worker)),
        ("token.revoke", token_id),
        ("token.create", token_id),
    ]
    assert all((entry.user_id, entry.user) == (root.user_id, "root") for entry in entries)
    assert entries[-1].details == {"user": "root", "name": "laptop"}
    assert await place.admin.audit(before=entries[0].id, limit=1) == (entries[1],)


async def test_what_is_done_to_providers_and_models_is_logged_with_it_without_the_key(place: Place) -> None:
    root = await place.world.accounts.ensure_user("root", admin=True)
    models = ModelAdministration(place.models, Keyring.parse(new_key()), lambda *_: None)
    await models.add_provider(NewProvider(name="cloud", base_url="https://cloud.example/v1", key=KEY), by=root)
    await models.change_provider("cloud", ProviderChange(key=KEY + "2", enabled=False), by=root)
    await models.add_model(ModelEntry(name="large", provider="cloud", provider_model="l"), by=root)
    await models.change_model("large", ModelChange(fallbacks=()), by=root)
    with pytest.raises(ProviderInUse):
        await models.remove_provider("cloud", by=root)
    await models.remove_model("large", by=root)
    await models.remove_provider("cloud")
    entries = await place.admin.audit(before=LAST, limit=50)
    assert [(entry.action, entry.target, entry.details) for entry in entries] == [
        ("model.delete", "large", {}),
        ("model.change", "large", {"fields": ["fallbacks"]}),
        ("model.create", "large", {"provider": "cloud"}),
        ("provider.change", "cloud", {"fields": ["enabled", "key"], "enabled": False}),
        ("provider.create", "cloud", {"has_key": True}),
    ]
    assert KEY not in str(entries)


async def test_what_is_done_to_servers_of_tools_is_logged_with_it_without_the_secrets(place: Place) -> None:
    root = await place.world.accounts.ensure_user("root", admin=True)
    servers = McpAdministration(place.mcp_servers, Keyring.parse(new_key()), lambda *_: None)
    settings = McpSettings(url="https://tools.example/mcp?key=hidden", auth=BearerAuth())
    added = await servers.add("files", settings, {"token": KEY}, by=root)
    with pytest.raises(SlugTaken):
        await servers.add("files", settings, {}, by=root)
    off = replace(settings, enabled=False)
    await servers.change(added, slug="docs", settings=off, secrets={"token": KEY}, by=root)
    await servers.remove("docs", by=root)
    with pytest.raises(McpServerNotFound):
        await servers.remove("docs", by=root)
    entries = await place.admin.audit(before=LAST, limit=50)
    assert [(entry.action, entry.target, entry.details) for entry in entries] == [
        ("mcp_server.delete", "docs", {}),
        ("mcp_server.change", "files", {"fields": ["enabled", "secrets"], "slug": "docs"}),
        ("mcp_server.create", "files", {"host": "tools.example", "secrets": True}),
    ]


async def test_a_replica_learns_with_its_next_heartbeat_that_it_shall_drain(place: Place) -> None:
    world = place.world
    root = await world.accounts.ensure_user("root", admin=True)
    worker, other = await world.worker(), await world.worker()
    assert not (await world.registry.renew(worker, draining=False)).drain
    await place.admin.request_drain(worker, root)
    assert (await world.registry.renew(worker, draining=False)).drain
    assert not (await world.registry.renew(other, draining=False)).drain


async def add_token(world: World, account: Account, *, by: Account | None = None) -> str:
    made = tokens.generate()
    await world.accounts.add_token(
        account.user_id, token_id=made.token_id, name="laptop", secret_digest=made.digest, expires_at=None, by=by
    )
    return made.token_id
