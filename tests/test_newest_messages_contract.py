"""A history that opens at its end, in every ``Store``: the newest messages first, and a cursor to go on from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from chat_states import assistant, text
from contract_worlds import OWNER, PAGE_BYTES, World, fence_of, open_world, texts

from chatcluster.chat import Edit, FinishTurn
from chatcluster.errors import ChatNotFound
from chatcluster.parts import START, Cursor, NewMessage, Position, Role, TextPart
from chatcluster.ports import NewestMessages

LAST = 2**63 - 1


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("database_url")


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[World]:
    async with open_world(url) as world:
        yield world


async def newest(
    world: World, chat_id: UUID, *, before: int = LAST, limit: int = 10, bytes_max: int = PAGE_BYTES
) -> NewestMessages:
    return await world.store.list_newest(chat_id, owner_id=OWNER, before=before, limit=limit, bytes_max=bytes_max)


async def test_pages_go_back_from_the_newest_message_to_the_first(world: World) -> None:
    chat_id = await world.chat(*"abcdefg")
    read, sizes, before = [], [], LAST
    while True:
        page = await newest(world, chat_id, before=before, limit=3)
        read += texts(page.messages)
        sizes.append(len(page.messages))
        if not page.has_more:
            break
        before = page.messages[-1].id
    assert "".join(read) == "gfedcba"
    assert sizes == [3, 3, 1]


async def test_a_page_is_bounded_by_its_bytes_and_has_one_message_at_least(world: World) -> None:
    """P10"""
    chat_id = await world.chat("a", "b" * 5000, "c")
    size = len('[{"type":"text","text":"c"}]')
    page = await newest(world, chat_id, bytes_max=2 * size)
    assert (texts(page.messages), page.has_more) == (["c"], True)
    page = await newest(world, chat_id, before=page.messages[-1].id, bytes_max=2 * size)
    assert (texts(page.messages), page.has_more) == (["b" * 5000], True)
    page = await newest(world, chat_id, before=page.messages[-1].id, bytes_max=2 * size)
    assert (texts(page.messages), page.has_more) == (["a"], False)
    assert (await newest(world, chat_id, before=page.messages[-1].id)).messages == ()


async def test_it_comes_with_the_chat_its_queue_and_the_cursor_after_all_of_it(world: World) -> None:
    chat_id = await world.chat("hello")
    claimed = (await world.claim()).chat
    await world.queue(chat_id, "more")
    page = await newest(world, chat_id)
    assert [queued.parts for queued in page.queue] == [text("more")]
    assert page.chat.snapshot_version == (await world.store.get(chat_id)).snapshot_version
    assert page.cursor == Cursor(page.chat.snapshot_version, START)
    answer = NewMessage(Role.ASSISTANT, (TextPart("hi"),), finish_reason="stop", position="1-7")
    await world.store.commit(fence_of(claimed), FinishTurn((answer,)))
    page = await newest(world, chat_id)
    assert texts(page.messages) == ["more", "hi", "hello"]
    assert page.cursor == Cursor(page.chat.snapshot_version, Position(1, 7))
    assert page.queue == ()


async def test_what_was_edited_away_is_not_there(world: World) -> None:
    chat_id = await world.chat("hello")
    await world.store.commit(fence_of((await world.claim()).chat), FinishTurn((assistant("hi"),)))
    first = (await newest(world, chat_id)).messages[-1]
    await world.store.apply(chat_id, Edit(first.id, text("better")), owner_id=OWNER)
    assert texts((await newest(world, chat_id)).messages) == ["better"]


async def test_nobody_elses_chat_is_read(world: World) -> None:
    """P9"""
    chat_id = await world.chat("hello")
    for missing, owner in ((chat_id, uuid4()), (uuid4(), OWNER)):
        with pytest.raises(ChatNotFound):
            await world.store.list_newest(missing, owner_id=owner, before=LAST, limit=1, bytes_max=PAGE_BYTES)
