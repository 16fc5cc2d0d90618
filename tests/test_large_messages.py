"""P10: a large message is shown and read like any other; one that is too large, or cannot be read, harms nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from chat_states import text, user
from contract_worlds import OWNER, World, Worlds, texts
from postgres_sessions import execute

from chatcluster.config import Settings
from chatcluster.errors import HistoryTooLarge, Unreadable
from chatcluster.mcp_checks import RESULT_BYTES_MAX
from chatcluster.parts import Message, text_of
from chatcluster.ports import VERSION_MAX, NewChat
from chatcluster.ports.histories import MESSAGE_BYTES_MAX, TOO_LARGE
from chatcluster.postgres import Database, Session
from chatcluster.postgres.large_messages import ESCAPES_MAX
from chatcluster.postgres.rows import UNREADABLE_TEXT
from chatcluster.postgres.store import PostgresStore
from chatcluster.tool_results import KEPT_BYTES_MAX

pytest_plugins = ["contract_fixtures"]

LARGE = 'é"\n\U0001f600' * 300_000
"""Its pieces end within characters, and it has more bytes as JSON than characters."""
PAGE: Any = {"limit": 10, "bytes_max": 1 << 20}
MODEL_PAGE: Any = {"page_bytes": 1 << 20, "message_bytes_max": 12 << 20}


@pytest.fixture
async def world(worlds: Worlds) -> AsyncIterator[World]:
    async with worlds(history_bytes_max=64 << 20) as world:
        yield world


Pages = Callable[[int], Awaitable[tuple[tuple[Message, ...], bool]]]


def pages_of(world: World, chat_id: UUID) -> dict[str, Pages]:
    """Each way to read a history in order: from an ID on, the messages of a page, and whether there are more."""
    store = world.store

    async def listed(after: int) -> tuple[tuple[Message, ...], bool]:
        page = await store.list_messages(chat_id, owner_id=OWNER, after=after, **PAGE)
        return page.messages, page.has_more

    async def caught_up(after: int) -> tuple[tuple[Message, ...], bool]:
        page = await store.read_messages(chat_id, after_version=0, after_id=after, up_to_version=VERSION_MAX, **PAGE)
        return page.messages, page.next_revision is not None

    async def newer(after: int) -> tuple[tuple[Message, ...], bool]:
        page = await store.read_newer(chat_id, after_version=0, after_id=after, queue_version=-1, **PAGE)
        return page.messages, page.next_revision is not None

    async def asked_about(after: int) -> tuple[tuple[Message, ...], bool]:
        page = await store.read_history(chat_id, after=after, **MODEL_PAGE)
        return page.messages, page.has_more

    return {"listed": listed, "caught up": caught_up, "newer": newer, "asked about": asked_about}


def test_p1_whatever_is_stored_as_one_message_can_be_read() -> None:
    answer_bytes_max = Settings().streaming.attempt_bytes_max
    assert max(KEPT_BYTES_MAX, RESULT_BYTES_MAX, answer_bytes_max) + (64 << 10) < MESSAGE_BYTES_MAX


@pytest.mark.parametrize("way", ["listed", "caught up", "newer", "asked about"])
async def test_p10_a_large_message_is_read_whole_wherever_it_is(world: World, way: str) -> None:
    words = [LARGE, "b", "c", LARGE, LARGE, "d"]
    chat_id = await world.chat(*words)
    read, after, has_more = list[str](), 0, True
    while has_more:
        messages, has_more = await pages_of(world, chat_id)[way](after)
        read += texts(messages)
        after = messages[-1].id if messages else after
    assert read == words


async def test_p10_a_large_message_is_read_whole_from_the_end_as_well(world: World) -> None:
    words = [LARGE, "b", LARGE]
    chat_id = await world.chat(*words)
    shown, asked, before = list[str](), list[str](), VERSION_MAX
    for _ in words:
        newest = await world.store.list_newest(chat_id, owner_id=OWNER, before=before, **PAGE)
        shown += texts(newest.messages[:1])
        page = await world.store.read_history(chat_id, after=0, before=before, **MODEL_PAGE)
        asked += texts(page.messages[-1:])
        assert newest.has_more == (len(newest.messages) < len(words) - len(shown) + 1)
        before = newest.messages[0].id
    assert shown == asked == words[::-1]


async def test_p10_a_message_that_is_too_large_to_be_shown_says_so_in_its_place(world: World) -> None:
    chat_id = await world.chat("a", "x" * MESSAGE_BYTES_MAX, "b")
    for way in ("listed", "caught up", "newer"):
        read, after, has_more = list[str](), 0, True
        while has_more:
            messages, has_more = await pages_of(world, chat_id)[way](after)
            read += texts(messages)
            after = messages[-1].id
        assert read == ["a", text_of(TOO_LARGE), "b"], way
    (last,) = (await world.store.list_newest(chat_id, owner_id=OWNER, before=VERSION_MAX, **PAGE)).messages
    (large,) = (await world.store.list_newest(chat_id, owner_id=OWNER, before=last.id, **PAGE)).messages
    assert texts((last, large)) == ["b", text_of(TOO_LARGE)]


# --- by hand, as the schema lets it in ----------------------------------------------------------


async def stored(database: Database, other: Session, *content: Any) -> tuple[PostgresStore, UUID]:
    """A chat of one message of this content."""
    store = PostgresStore(database)
    chat = (await store.create(NewChat(uuid4(), OWNER, "", None, (user("hello"),)))).chat
    await execute(
        other, "UPDATE messages SET content = $2::text::json WHERE chat_id = $1", chat.id, json.dumps(content)
    )
    return store, chat.id


def large_part() -> dict[str, str]:
    return {"type": "text", "text": "x" * (2 << 20)}


@pytest.mark.postgres
async def test_of_a_large_message_the_parts_of_unknown_kinds_are_left_out(database: Database, other: Session) -> None:
    store, chat_id = await stored(database, other, {"type": "hologram", "data": "y" * (2 << 20)}, large_part())
    (shown,) = (await store.list_messages(chat_id, owner_id=OWNER, after=0, **PAGE)).messages
    (read,) = (await store.read_history(chat_id, after=0, **MODEL_PAGE)).messages
    assert shown.parts == read.parts == text("x" * (2 << 20))


@pytest.mark.postgres
async def test_a_large_message_that_cannot_be_read_is_not_asked_about_but_has_its_place(
    database: Database, other: Session
) -> None:
    half_of_a_character = {"type": "text", "text": "\ud800"}
    store, chat_id = await stored(database, other, large_part(), half_of_a_character)
    (shown,) = (await store.list_messages(chat_id, owner_id=OWNER, after=0, **PAGE)).messages
    assert texts((shown,)) == [UNREADABLE_TEXT]
    with pytest.raises(Unreadable):
        await store.read_history(chat_id, after=0, **MODEL_PAGE)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "content",
    [[{"type": "text", "text": "x"}] * 60_000, [{"type": "text", "text": "\n" * (ESCAPES_MAX + 1)}]],
    ids=["parts", "escapes"],
)
async def test_p10_a_message_of_very_many_parts_or_escapes_is_too_large(
    database: Database, other: Session, content: list[dict[str, str]]
) -> None:
    store, chat_id = await stored(database, other, *content)
    (shown,) = (await store.list_messages(chat_id, owner_id=OWNER, after=0, **PAGE)).messages
    assert shown.parts == TOO_LARGE
    with pytest.raises(HistoryTooLarge):
        await store.read_history(chat_id, after=0, **MODEL_PAGE)
