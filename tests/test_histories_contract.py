"""How much a chat may hold, and how its history is read, in every ``Store``: by pages, each bounded by its bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from chat_states import assistant, text
from contract_worlds import OWNER, World, Worlds, fence_of, texts

from chatcluster.chat import Busy, CommitStep, DeleteQueued, Edit, FinishTurn, Send
from chatcluster.errors import ChatFull, ChatNotFound, HistoryTooLarge
from chatcluster.ports import VERSION_MAX

BYTES_MAX = 64 << 10
LONG = "x" * 20_000


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(worlds: Worlds) -> AsyncIterator[World]:
    async with worlds(history_bytes_max=BYTES_MAX) as world:
        yield world


async def fill(world: World) -> UUID:
    """A chat with room for one long message more, at rest."""
    chat_id = await world.chat(LONG)
    await world.store.commit(fence_of((await world.claim()).chat), FinishTurn((assistant(LONG),)))
    return chat_id


# --- pages ------------------------------------------------------------------------------------


async def test_a_history_is_read_in_pages_of_so_many_bytes(world: World) -> None:
    """P10"""
    words = [f"{number} " + "x" * 1000 for number in range(7)]
    chat_id = await world.chat(*words)
    read: list[str] = []
    after, sizes = 0, []
    while True:
        page = await world.page(chat_id, after=after, page_bytes=3000)
        read += texts(page.messages)
        sizes.append(len(page.messages))
        if not page.has_more:
            break
        after = page.messages[-1].id
    assert read == words
    assert sizes == [3, 3, 1]
    assert page.history_version == 1


async def test_a_page_has_the_messages_that_an_edit_left(world: World) -> None:
    chat_id = await world.chat("wrong", "later")
    wrong = (await world.history(chat_id))[0]
    await world.store.apply(chat_id, Edit(wrong.id, text("right")), owner_id=OWNER)
    page = await world.page(chat_id)
    assert texts(page.messages) == ["right"]
    assert page.history_version == 2


async def test_a_message_that_is_too_long_is_not_read(world: World) -> None:
    """P10"""
    chat_id = await world.chat("short", LONG)
    with pytest.raises(HistoryTooLarge):
        await world.page(chat_id, message_bytes_max=10_000)


async def test_an_unknown_chat_has_no_history(world: World) -> None:
    with pytest.raises(ChatNotFound):
        await world.page(uuid4())


async def test_a_history_is_read_from_its_end_in_pages_of_so_many_bytes(world: World) -> None:
    """P10: what a long one costs is what of it is wanted."""
    words = [f"{number} " + "x" * 1000 for number in range(7)]
    chat_id = await world.chat(*words)
    read: list[str] = []
    before, sizes = VERSION_MAX, []
    while True:
        page = await world.page(chat_id, before=before, page_bytes=3000)
        read[:0] = texts(page.messages)
        sizes.append(len(page.messages))
        if not page.has_more:
            break
        before = page.messages[0].id
    assert read == words
    assert sizes == [3, 3, 1]
    assert page.history_version == 1


async def test_read_from_its_end_a_history_is_what_an_edit_left(world: World) -> None:
    chat_id = await world.chat("wrong", "later")
    wrong = (await world.history(chat_id))[0]
    await world.store.apply(chat_id, Edit(wrong.id, text("right")), owner_id=OWNER)
    page = await world.page(chat_id, before=VERSION_MAX)
    assert (texts(page.messages), page.has_more) == (["right"], False)


async def test_from_the_end_as_well_a_message_that_is_too_long_is_not_read(world: World) -> None:
    """P10; one before it is."""
    chat_id = await world.chat("short", LONG)
    with pytest.raises(HistoryTooLarge):
        await world.page(chat_id, before=VERSION_MAX, message_bytes_max=10_000)
    long = (await world.history(chat_id))[1]
    page = await world.page(chat_id, before=long.id, message_bytes_max=10_000)
    assert texts(page.messages) == ["short"]


# --- room -------------------------------------------------------------------------------------


async def test_a_full_chat_refuses_a_message_and_nothing_is_written(world: World) -> None:
    """P10"""
    chat_id = await fill(world)
    await world.send(chat_id, LONG)
    await world.store.commit(fence_of((await world.claim()).chat), FinishTurn((assistant("yes"),)))
    before = await world.store.read(chat_id)
    with pytest.raises(ChatFull, match="edit an earlier message"):
        await world.send(chat_id, LONG)
    assert await world.store.read(chat_id) == before
    await world.send(chat_id, "a short one")


async def test_what_is_queued_counts_until_it_is_deleted(world: World) -> None:
    chat_id = await fill(world)
    await world.send(chat_id, "go on")
    queued = await world.queue(chat_id, LONG)
    with pytest.raises(ChatFull):
        await world.send(chat_id, LONG, Busy.QUEUE)
    await world.store.apply(chat_id, DeleteQueued(queued.id), owner_id=OWNER)
    await world.queue(chat_id, LONG)


async def test_what_was_queued_does_not_count_twice_once_it_is_history(world: World) -> None:
    chat_id = await world.chat(LONG)
    chat = (await world.claim()).chat
    await world.queue(chat_id, LONG)
    promoted = await world.store.commit(fence_of(chat), FinishTurn((assistant("yes"),)))
    assert texts(promoted.messages)[-1] == LONG
    await world.queue(chat_id, LONG)


async def test_an_edit_makes_room_in_a_full_chat(world: World) -> None:
    chat_id = await fill(world)
    await world.send(chat_id, LONG)
    first = (await world.history(chat_id))[0]
    with pytest.raises(ChatFull):
        await world.store.apply(chat_id, Edit(first.id, text(LONG * 4)), owner_id=OWNER)
    await world.store.apply(chat_id, Edit(first.id, text("anew")), owner_id=OWNER)
    await world.store.commit(fence_of((await world.claim()).chat), FinishTurn())
    for _ in range(2):
        await world.store.apply(chat_id, Send(text(LONG)), owner_id=OWNER)


async def test_an_owner_commits_whatever_the_size(world: World) -> None:
    """P1: what was generated is kept."""
    chat_id = await fill(world)
    await world.send(chat_id, LONG)
    chat = (await world.claim()).chat
    stepped = await world.store.commit(fence_of(chat), CommitStep((assistant(LONG),)), known=chat)
    await world.store.commit(fence_of(stepped.chat), FinishTurn((assistant(LONG),)))
    assert len(await world.history(chat_id)) == 5
    with pytest.raises(ChatFull):
        await world.send(chat_id, "x")
