"""What every ``Responses`` does: one row for each response, seen by the owner of its chat alone (P9)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from chatcluster.chat import Send
from chatcluster.config import Settings
from chatcluster.memory import MemoryDatabase, MemoryStore
from chatcluster.memory.responses import MemoryResponses
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import NewChat, Store
from chatcluster.ports.responses import Responses, StoredResponse
from chatcluster.postgres import open_database
from chatcluster.postgres.responses import PostgresResponses
from chatcluster.postgres.store import PostgresStore

OWNER, OTHER = UUID(int=100), UUID(int=101)


@dataclass
class Site:
    store: Store
    responses: Responses

    async def chat(self, *, at_rest: bool = False) -> tuple[UUID, int]:
        """A chat with one message, and that message."""
        messages = (NewMessage(Role.USER, (TextPart("hello"),)),)
        outcome = await self.store.create(NewChat(uuid4(), OWNER, "a chat", None, messages, at_rest=at_rest))
        assert outcome.message is not None
        return outcome.chat.id, outcome.message.id


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def site(url: str | None) -> AsyncIterator[Site]:
    if url is None:
        memory = MemoryDatabase()
        yield Site(MemoryStore(memory), MemoryResponses(memory))
        return
    async with open_database(Settings.of(database_url=url)) as database:
        yield Site(PostgresStore(database), PostgresResponses(database))


async def test_what_is_added_is_there_for_the_owner_of_its_chat_alone(site: Site) -> None:
    chat_id, message_id = await site.chat()
    response = StoredResponse(chat_id, message_id, 1, '{"a": 1}', transient=True)
    await site.responses.add(response)
    assert await site.responses.get(chat_id, message_id, owner_id=OWNER) == response
    assert await site.responses.get(chat_id, message_id, owner_id=OTHER) is None
    assert await site.responses.get(chat_id, message_id + 1, owner_id=OWNER) is None
    assert await site.responses.get(uuid4(), message_id, owner_id=OWNER) is None


async def test_the_first_one_stays(site: Site) -> None:
    """A repeat of the request that made it writes nothing."""
    chat_id, message_id = await site.chat()
    first = StoredResponse(chat_id, message_id, 1, "{}")
    await site.responses.add(first)
    await site.responses.add(StoredResponse(chat_id, message_id, 1, '{"b": 2}'))
    assert await site.responses.get(chat_id, message_id, owner_id=OWNER) == first


async def test_only_its_owner_removes_it_and_once(site: Site) -> None:
    chat_id, message_id = await site.chat()
    await site.responses.add(StoredResponse(chat_id, message_id, 1, "{}"))
    assert not await site.responses.remove(chat_id, message_id, owner_id=OTHER)
    assert await site.responses.remove(chat_id, message_id, owner_id=OWNER)
    assert not await site.responses.remove(chat_id, message_id, owner_id=OWNER)
    assert (await site.store.get(chat_id)).id == chat_id, "the chat stays"


async def test_a_transient_one_is_removed_for_its_owner_like_any_other(site: Site) -> None:
    chat_id, message_id = await site.chat()
    await site.responses.add(StoredResponse(chat_id, message_id, 1, "{}", transient=True))
    assert not await site.responses.remove(chat_id, message_id, owner_id=OTHER)
    assert await site.responses.remove(chat_id, message_id, owner_id=OWNER)
    assert not await site.responses.remove(chat_id, message_id, owner_id=OWNER)
    assert await site.responses.get(chat_id, message_id, owner_id=OWNER) is None


async def test_what_takes_the_place_of_another_is_there_in_one_step(site: Site) -> None:
    chat_id, _ = await site.chat()
    for kept in ('{"metadata": {}}', '{"metadata": {"a": "b"}}'):
        await site.responses.replace(StoredResponse(chat_id, 0, 0, kept))
        assert await site.responses.get(chat_id, 0, owner_id=OWNER) == StoredResponse(chat_id, 0, 0, kept)
    await site.responses.replace(StoredResponse(uuid4(), 0, 0, "{}"))


async def test_it_goes_with_its_chat(site: Site) -> None:
    chat_id, message_id = await site.chat(at_rest=True)
    await site.responses.add(StoredResponse(chat_id, message_id, 1, "{}"))
    await site.store.delete(chat_id, owner_id=OWNER)
    assert await site.responses.get(chat_id, message_id, owner_id=OWNER) is None
    await site.responses.add(StoredResponse(chat_id, message_id, 1, "{}"))
    assert await site.responses.get(chat_id, message_id, owner_id=OWNER) is None, "nor is one added to it"


async def test_what_a_user_said_after_it_is_known(site: Site) -> None:
    chat_id, message_id = await site.chat(at_rest=True)
    assert await site.responses.asked_after(chat_id, message_id) is None
    sent = await site.store.apply(chat_id, Send((TextPart("and?"),)), owner_id=OWNER)
    assert sent.message is not None
    assert await site.responses.asked_after(chat_id, message_id) == sent.message.id


async def test_a_history_at_rest_asks_for_nothing(site: Site) -> None:
    chat_id, _ = await site.chat(at_rest=True)
    chat = await site.store.get(chat_id)
    assert (str(chat.status), chat.runnable) == ("waiting", False)


async def test_users_messages_are_known_by_their_number_and_the_newest(site: Site) -> None:
    chat_id, first = await site.chat(at_rest=True)
    second = (await site.store.apply(chat_id, Send((TextPart("and?"),)), owner_id=OWNER)).message
    assert second is not None
    found = [await site.responses.asked(chat_id, number) for number in (0, 1, 2)]
    assert [one and one.message_id for one in found] == [first, second.id, None]
    assert await site.responses.asked(chat_id) == (second.id, second.revision)
    since = [await site.responses.asked(chat_id, number, since=second.id) for number in (0, 1)]
    assert [one and one.message_id for one in since] == [second.id, None]
    assert await site.responses.asked(uuid4()) is None
