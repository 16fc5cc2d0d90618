"""``/watch?chat=``: a user's list and one chat in one stream, under one cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
import trio.testing

from chatcluster import tab_stream
from chatcluster.errors import ChatNotFound, InvalidCursor, TooMany
from chatcluster.parts import BEGINNING
from chatcluster.ports import NewChat
from chatcluster.subscriber import Cut
from chatcluster.tab_stream import TabSubscriber, parse_tab_cursor
from loops.cluster_world import OWNER, Chat, SimulatedReplica, World


class Tab:
    """What a browser's tab has read: events in a few words, and the cursor after each."""

    def __init__(self, subscriber: TabSubscriber) -> None:
        self.subscriber = subscriber
        self.lines: list[str] = []
        self.cursors: list[str] = []

    async def until(self, line: str, *, within: float = 10.0) -> None:
        with trio.move_on_after(within):
            while line not in self.lines:
                self._take(await self.subscriber.receive())
        assert line in self.lines, f"not within {within:g} s; read {self.lines}"

    def _take(self, events: bytes) -> None:
        for block in events.decode().split("\n\n")[:-1]:
            id_line, kind, data = block.split("\n")
            self.cursors.append(id_line.removeprefix("id: "))
            self.lines.append(in_words(kind.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))))


def in_words(kind: str, data: dict[str, Any]) -> str:
    assert data["type"] == kind
    match kind:
        case "chat":
            return f"list: {data['change']} {data['chat']['title']}"
        case "message":
            return f"{data['message']['role']}: {data['message']['parts'][0]['text']}"
        case "status":
            return f"status {data['status']}"
        case _:
            return kind


@asynccontextmanager
async def tab(replica: SimulatedReplica, chat: Chat, cursor: str = "", owner_id: UUID = OWNER) -> AsyncIterator[Tab]:
    async with replica.tabs.subscribe(owner_id, chat.id, parse_tab_cursor(cursor)) as subscriber:
        yield Tab(subscriber)


async def new_chat(replica: SimulatedReplica, title: str) -> Chat:
    outcome = await replica.transitions.create(NewChat(uuid4(), OWNER, title, None, ()))
    return Chat(replica.world, outcome.chat.id)


async def test_one_stream_tells_of_the_chat_and_of_all_others(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    async with tab(b, chat) as reader:
        await reader.until("ready")
        assert reader.lines[0] == "status waiting"
        assert not [line for line in reader.lines if line.startswith("list:")]
        other = await new_chat(a, "other")
        await reader.until("list: created other", within=0.1)
        await a.rename(other, "renamed")
        await reader.until("list: title renamed", within=0.1)
        await a.rename(chat, "mine")
        await reader.until("title", within=0.1)
        await reader.until("list: title mine", within=0.1)


async def test_each_event_has_a_cursor_and_from_each_of_them_nothing_is_missing(world: World) -> None:
    """P3: whatever is lost of a connection, the chat goes on exactly there, and no change of the list is forgotten."""
    a, b = await world.cluster(2)
    chat, other = await world.one_turn(a), await new_chat(a, "other")
    async with tab(a, chat) as reader:
        await reader.until("ready")
        await a.rename(other, "one")
        await a.rename(chat, "mine")
        await reader.until("list: title one")
        await reader.until("list: title mine")
        await a.rename(other, "two")
        await reader.until("list: title two")
    whole = list(zip(reader.cursors, reader.lines, strict=True))
    for index, (cursor, line) in enumerate(whole):
        listed, _, rest = cursor.partition("~")
        assert listed.isdigit(), (cursor, line)
        assert parse_tab_cursor(cursor).chat >= BEGINNING, (cursor, line)
        async with tab(b, chat, cursor) as resumed:
            await resumed.until("ready")
            messages = [line for line in resumed.lines if line.startswith(("user:", "assistant:"))]
            assert messages == [line for _, line in whole[index + 1 :] if line.startswith(("user:", "assistant:"))]
            missed = [line for _, line in whole[index + 1 :] if "two" in line]
            if missed:
                await resumed.until("list: status two")
        assert rest


async def test_another_chat_takes_the_place_in_the_list_along(world: World) -> None:
    a = await world.replica()
    chat, other = await world.one_turn(a), await new_chat(a, "other")
    async with tab(a, chat) as reader:
        await reader.until("ready")
        listed = reader.cursors[-1].partition("~")[0]
    third = await new_chat(a, "third")
    async with tab(a, other, f"{listed}~") as reader:
        await reader.until("ready")
        await reader.until("list: status third")
    assert third


async def test_tabs_that_come_one_after_the_other_do_not_search_the_list_each(world: World) -> None:
    """To look for changes is to look at all of a user's chats. A place from a little before will do to come back to."""
    a = await world.replica()
    chat = await world.one_turn(a)
    async with tab(a, chat) as reader:
        await reader.until("ready")
        begun = reader.cursors[-1].partition("~")[0]
    await trio.sleep(1.0)
    async with tab(a, chat) as reader:
        await reader.until("ready")
        assert reader.cursors[-1].partition("~")[0] == begun
    await trio.sleep(tab_stream.LATELY_SECONDS)
    other = await new_chat(a, "other")
    async with tab(a, chat) as reader:
        await reader.until("ready")
        assert reader.cursors[-1].partition("~")[0] > begun
    async with tab(a, chat, f"{begun}~") as reader:
        await reader.until("list: status other")
    assert other


async def test_who_comes_back_to_very_many_changes_is_told_to_read_the_list_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tab_stream, "LIST_CHANGES_MAX", 2)
    a = await world.replica()
    chat = await world.one_turn(a)
    for number in range(3):
        await new_chat(a, f"chat {number}")
    async with tab(a, chat, "0~") as reader:
        await reader.until("list_reset")
        assert not [line for line in reader.lines if line.startswith("list:")]


async def test_a_rewritten_history_takes_nothing_of_the_list_away(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    async with tab(a, chat) as reader:
        await reader.until("ready")
        other = await new_chat(a, "other")
        await reader.until("list: created other")
        await a.edit(chat, "hello", "better")
        await a.rename(other, "later")
        await reader.until("history_reset")
        await reader.until("user: better")
        await reader.until("list: title later")


async def test_what_is_pending_of_the_list_outlives_a_restart_of_the_chat(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    async with tab(a, chat) as reader:
        await reader.until("ready")
        await new_chat(a, "other")
        await trio.testing.wait_all_tasks_blocked()
        (feed,) = a.feeds._feeds.values()
        reader.subscriber.restart(feed.shown.snapshot())
        await reader.until("list: created other")


async def test_a_tab_has_one_place_and_gives_it_back(world: World) -> None:
    a = await world.replica(subscribers_per_user=1)
    chat = await world.one_turn(a)
    async with tab(a, chat):
        with pytest.raises(TooMany):
            async with tab(a, chat):
                raise AssertionError("there is no place")
    async with tab(a, chat) as reader:
        await reader.until("ready")


async def test_somebody_elses_chat_is_not_found_and_nothing_is_opened(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    with pytest.raises(ChatNotFound):
        async with tab(a, chat, owner_id=uuid4()):
            raise AssertionError("this is not theirs")


async def test_a_drain_cuts_it(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    async with tab(a, chat) as reader:
        await reader.until("ready")
        a.watches.cut_all()
        with pytest.raises(Cut):
            await reader.subscriber.receive()


@pytest.mark.parametrize("cursor", ["x~1.1-1", "-1~1.1-1", "1~x", "9" * 17 + "~", "9" * 15 + "~", "1~2~1.1-1"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        parse_tab_cursor(cursor)


def test_each_half_of_a_cursor_may_be_left_away() -> None:
    assert parse_tab_cursor("") == parse_tab_cursor("~") == (None, BEGINNING)
    assert parse_tab_cursor("3.1-2").chat == parse_tab_cursor("~3.1-2").chat
    assert parse_tab_cursor("5~").listed_at is not None
