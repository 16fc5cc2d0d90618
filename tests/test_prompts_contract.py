"""What every ``Prompts`` does, and that a claim comes with all that its chat's model is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID, uuid4

import pytest

from chatcluster.config import Settings
from chatcluster.errors import ChatNotFound
from chatcluster.memory import MemoryDatabase, MemoryRegistry, MemoryStore
from chatcluster.memory.administration import MemoryAdministration
from chatcluster.memory.prompts import MemoryPrompts
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import Account, NewChat, Registry, Replica, Store
from chatcluster.ports.administration import Administration
from chatcluster.ports.prompts import DEPLOYMENT, Prompts, ToldPrompts
from chatcluster.postgres import open_database
from chatcluster.postgres.administration import PostgresAdministration
from chatcluster.postgres.prompts import PostgresPrompts
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore

OWNER, ANOTHER = UUID(int=100), UUID(int=101)
ADMIN = Account(UUID(int=7), "root", True, "token", None)


class World(NamedTuple):
    prompts: Prompts
    store: Store
    registry: Registry
    administration: Administration

    async def chat(self, owner_id: UUID = OWNER, system_prompt: str = "") -> UUID:
        messages = (NewMessage(Role.USER, (TextPart("hi"),)),)
        new = NewChat(uuid4(), owner_id, "a chat", None, messages, system_prompt=system_prompt)
        return (await self.store.create(new)).chat.id

    async def told(self) -> dict[UUID, ToldPrompts]:
        """What comes with the claim of all that waits."""
        worker = uuid4()
        await self.registry.register(Replica(worker, "replica", "", "0.1.0", slots=9))
        claimed = await self.store.claim(worker, free_slots=9, batch=9)
        return {one.chat.id: one.prompts for one in claimed}


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[World]:
    if url is None:
        memory = MemoryDatabase()
        store, registry = MemoryStore(memory), MemoryRegistry(memory)
        yield World(MemoryPrompts(memory), store, registry, MemoryAdministration(memory))
        return
    async with open_database(Settings.of(database_url=url)) as database:
        store_, registry_ = PostgresStore(database), PostgresRegistry(database)
        yield World(PostgresPrompts(database), store_, registry_, PostgresAdministration(database))


async def test_a_text_is_kept_for_its_owner_alone(world: World) -> None:
    await world.prompts.put(OWNER, "I am Ada.")
    await world.prompts.put(OWNER, "I am Ada Lovelace.")
    await world.prompts.put(DEPLOYMENT, "All.")
    assert await world.prompts.get(OWNER) == "I am Ada Lovelace."
    assert await world.prompts.get(DEPLOYMENT) == "All."
    assert await world.prompts.get(ANOTHER) == ""


async def test_a_claim_comes_with_all_that_the_model_is_told(world: World) -> None:
    await world.prompts.put(DEPLOYMENT, "All.")
    await world.prompts.put(OWNER, "I am Ada.")
    with_own, plain, of_another = await world.chat(OWNER, "Own."), await world.chat(), await world.chat(ANOTHER)
    assert await world.told() == {
        with_own: ToldPrompts("All.", "Own.", "I am Ada."),
        plain: ToldPrompts("All.", None, "I am Ada."),
        of_another: ToldPrompts("All.", None, ""),
    }


async def test_a_chats_own_is_changed_and_taken_away(world: World) -> None:
    chat_id = await world.chat(OWNER, "Own.")
    assert await world.prompts.own(chat_id) == "Own."
    await world.prompts.set_own(chat_id, "Better.")
    assert await world.prompts.own(chat_id) == "Better."
    await world.prompts.set_own(chat_id, "")
    assert await world.prompts.own(chat_id) == "", "it has none, whatever its first message says"
    assert (await world.told())[chat_id].own == ""
    assert await world.prompts.own(await world.chat()) is None


async def test_a_chat_that_is_not_there_has_none(world: World) -> None:
    assert await world.prompts.own(uuid4()) is None
    with pytest.raises(ChatNotFound):
        await world.prompts.set_own(uuid4(), "Own.")


async def test_that_an_administrator_changed_it_is_logged_and_not_to_what(world: World) -> None:
    await world.prompts.put(DEPLOYMENT, "Tell nobody.", by=ADMIN)
    (entry,) = await world.administration.audit(before=2**62, limit=9)
    assert (entry.action, entry.user, entry.details) == ("system_prompt.change", "root", {"characters": 12})
