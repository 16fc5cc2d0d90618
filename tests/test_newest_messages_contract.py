"""A history that opens at its end, in every ``Store``: the newest messages first, and a cursor to go on from."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from chat_states import assistant, text, user
from contract_worlds import OWNER, PAGE_BYTES, World, fence_of, texts

from chatcluster.chat import Edit, FinishTurn
from chatcluster.errors import ChatNotFound
from chatcluster.parts import START, Cursor, NewMessage, Position, Role, TextPart
from chatcluster.ports import NewestMessages

LAST = 2**63 - 1


pytest_plugins = ["contract_fixtures"]


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


async def test_no_page_has_a_system_text_and_each_page_has_a_message(world: World) -> None:
    """What the model alone is told is for no reader, whatever page it would have been on."""
    prompt = NewMessage(Role.SYSTEM, text("Be brief."))
    chat_id = (await world.create(prompt, *map(user, "abc"))).chat.id
    assert (await newest(world, chat_id, limit=3)).has_more is False
    bounds: Any = {"limit": 1, "bytes_max": PAGE_BYTES}
    listed = await world.store.list_messages(chat_id, owner_id=OWNER, after=0, **bounds)
    assert (texts(listed.messages), listed.has_more) == (["a"], True)
    page = await world.store.read_messages(chat_id, after_version=0, after_id=0, up_to_version=1, **bounds)
    assert (texts(page.messages), page.next_revision) == (["a"], 1)
    read = await world.store.read_newer(chat_id, after_version=0, after_id=0, queue_version=0, **bounds)
    assert (texts(read.messages), read.next_revision) == (["a"], 1)
    place: Any = {"after_version": 0, "after_id": 0, "queue_version": 0, "turns_after": 0}
    few = await world.store.read_newer(chat_id, **place, limit=9, bytes_max=PAGE_BYTES, if_whole=True)
    assert (texts(few.messages), few.next_revision) == ([*"abc"], None)
    alone = (await world.create(prompt)).chat.id
    assert (await newest(world, alone)).messages == ()
    assert (await world.store.list_messages(alone, owner_id=OWNER, after=0, **bounds)).messages == ()


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
