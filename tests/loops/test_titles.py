"""A chat gets a title beside its turn: soon, whoever dies meanwhile, and never over a person's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable
from chatcluster.memory import MemoryBroker, MemoryDatabase, MemoryPubSub, MemoryStore
from chatcluster.memory.titles import MemoryTitles
from chatcluster.notices import Notices
from chatcluster.parts import NewMessage, Role, TextPart, Usage
from chatcluster.ports import NewChat, Stint, Stints, owner_channel
from chatcluster.ports.outside import one_stint
from chatcluster.title_text import TITLE_INSTRUCTION
from chatcluster.titling import CONCURRENT_MAX, Titling
from loops.scripted_model import ScriptedModel

OWNER = UUID(int=100)
SOON_SECONDS = 30.0


class Site:
    """A database with chats, and replicas that name them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.database = MemoryDatabase()
        self.store = MemoryStore(self.database)
        self.pubsub = MemoryPubSub(MemoryBroker())
        self.model = ScriptedModel()
        self.stints: Stints = one_stint
        self._nursery = nursery

    async def replica(self, **settings: object) -> trio.CancelScope:
        """Start one; to cancel the scope is its death."""
        options = Settings.of(**settings)
        titling = Titling(MemoryTitles(self.database), self.model, Notices(self.pubsub), options, stints=self.stints)
        scope = trio.CancelScope()

        async def run() -> None:
            with scope:
                await titling.run()

        self._nursery.start_soon(run)
        return scope

    async def chat(self, words: str = "why is the sky blue?", model: str | None = None) -> UUID:
        message = NewMessage(Role.USER, (TextPart(words),))
        new = NewChat(uuid4(), OWNER, "why is the sky blue?", model, (message,), wants_title=True)
        return (await self.store.create(new)).chat.id

    def title(self, chat_id: UUID) -> str:
        return self.database.row(chat_id).title

    async def until_title(self, chat_id: UUID, title: str) -> None:
        with trio.fail_after(SOON_SECONDS):
            while self.title(chat_id) != title:  # noqa: ASYNC110 - time is virtual
                await trio.sleep(0.1)

    def booked(self) -> list[str]:
        return [str(row.spent.outcome) for row in self.database.kept.usage.values()]


@pytest.fixture
async def site(autojump_clock: object) -> AsyncIterator[Site]:
    async with trio.open_nursery() as nursery:
        yield Site(nursery)
        nursery.cancel_scope.cancel()


async def test_a_model_names_a_chat_and_lists_are_told(site: Site) -> None:
    async with site.pubsub.subscribe(owner_channel(OWNER)) as told:
        await site.replica(title_model="small")
        chat_id = await site.chat()
        call = await site.model.next_call()
        assert call.request.model == "small"
        assert call.prompt == [f"system: {TITLE_INSTRUCTION}", "user: why is the sky blue?"]
        call.say('"Blue', " skies.", '"\n')
        call.finish(usage=Usage(10, 5))
        await site.until_title(chat_id, "Blue skies")
        assert b'"title"' in await told.receive()  # type: ignore[operator]
    assert site.booked() == ["title"]


async def test_where_a_try_fails_the_next_one_asks_the_models_fallback(site: Site) -> None:
    site.stints = lambda _model, failures: Stint(0, 3, "backup") if failures < 3 else Stint(3)
    await site.replica()
    chat_id = await site.chat()
    call = await site.model.next_call()
    assert call.request.failures == 0
    call.fail("auth", retryable=False)
    call = await site.model.next_call()
    assert call.request.failures == 3
    call.answer("Blue skies")
    await site.until_title(chat_id, "Blue skies")


@pytest.mark.parametrize("how", ["apart", "in tags"])
async def test_a_model_may_think_for_long_before_it_names_a_chat(site: Site, how: str) -> None:
    await site.replica()
    chat_id = await site.chat()
    call = await site.model.next_call()
    if how == "apart":
        call.think(*["hm "] * 2000)
    else:
        call.say("<think>", *["hm "] * 2000, "</think>")
    call.answer("Blue skies")
    await site.until_title(chat_id, "Blue skies")


async def test_the_beginning_of_a_refusal_is_no_title(site: Site) -> None:
    await site.replica()
    chat_id = await site.chat()
    for _ in range(2):
        call = await site.model.next_call()
        call.say("I am not able")
        call.finish("content_filter")
    await trio.sleep(SOON_SECONDS)
    assert site.title(chat_id) == "why is the sky blue?"
    assert site.booked() == ["title", "title"]


async def test_a_title_is_asked_for_aside_and_nothing_is_searched_for_it(site: Site) -> None:
    await site.replica()
    await site.chat()
    request = (await site.model.next_call()).request
    assert (request.is_aside, request.may_search) == (True, False)


async def test_without_a_model_of_its_own_the_chats_model_is_asked(site: Site) -> None:
    await site.replica()
    await site.chat(model="large")
    assert (await site.model.next_call()).request.model == "large"


async def test_what_fails_is_tried_once_more_and_then_the_first_words_stay(site: Site) -> None:
    await site.replica()
    chat_id = await site.chat()
    (await site.model.next_call()).fail()
    call = await site.model.next_call()
    call.answer(" \n ")
    await trio.sleep(SOON_SECONDS)
    assert site.model.idle()
    assert site.title(chat_id) == "why is the sky blue?"
    assert not site.database.kept.titles_wanted


async def test_a_model_that_is_silent_is_given_up(site: Site) -> None:
    await site.replica()
    chat_id = await site.chat()
    silent = await site.model.next_call()
    (await site.model.next_call()).answer("Blue skies")
    assert silent.ended.is_set()
    await trio.sleep(1)
    assert site.title(chat_id) == "Blue skies"


async def test_a_replica_that_dies_in_between_leaves_it_to_another(site: Site) -> None:
    dies = await site.replica()
    chat_id = await site.chat()
    (await site.model.next_call()).say("Blu")
    began = trio.current_time()
    await site.replica()
    dies.cancel()
    (await site.model.next_call()).answer("Blue skies")
    await site.until_title(chat_id, "Blue skies")
    assert trio.current_time() - began < SOON_SECONDS
    assert site.booked() == ["lost", "title"]


async def test_a_chat_is_asked_about_by_one_replica(site: Site) -> None:
    for _ in range(3):
        await site.replica()
    chat_id = await site.chat()
    (await site.model.next_call()).answer("Blue skies")
    await site.until_title(chat_id, "Blue skies")
    assert site.model.idle()


async def test_a_few_are_named_at_a_time_and_all_of_them_in_the_end(site: Site) -> None:
    chats = [await site.chat() for _ in range(3 * CONCURRENT_MAX)]
    await site.replica()
    calls = [await site.model.next_call() for _ in range(CONCURRENT_MAX)]
    await trio.sleep(5)
    assert site.model.idle()
    for call in calls:
        call.answer("Blue skies")
    for _ in range(2 * CONCURRENT_MAX):
        (await site.model.next_call()).answer("Blue skies")
    for chat_id in chats:
        await site.until_title(chat_id, "Blue skies")


async def test_a_database_that_is_away_is_asked_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patches:
        patches.setattr(MemoryTitles, "take", fail)
        await site.replica()
        chat_id = await site.chat()
        await trio.sleep(10)
    (await site.model.next_call()).answer("Blue skies")
    await site.until_title(chat_id, "Blue skies")


@pytest.mark.parametrize("settings", [{"titles": False}, {"slots": 0}])
async def test_who_is_not_to_name_chats_does_not(site: Site, settings: dict[str, Any]) -> None:
    await site.replica(**settings)
    await site.chat()
    await trio.sleep(SOON_SECONDS)
    assert site.model.idle()
