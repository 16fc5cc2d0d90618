"""What a history costs is what of it is needed, however long it has become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from chatcluster.chat import Busy
from chatcluster.content import SummaryPart
from chatcluster.context import HEADING, INSTRUCTION
from chatcluster.memory.store import MemoryStore
from chatcluster.parts import NewMessage, Role, TextPart, text_of
from chatcluster.ports import HistoryPage, NewChat, Window
from loops.cluster_world import OWNER, Chat, SimulatedReplica, World

WINDOW = Window(context_tokens=1000, output_tokens=10, percent=70)
TURNS = 2000
WORDS = "word " * 20


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[HistoryPage]:
    """The pages of histories that are read."""
    pages: list[HistoryPage] = []
    read_history = MemoryStore.read_history

    async def reading(self: MemoryStore, chat_id: UUID, **page: Any) -> HistoryPage:
        pages.append(await read_history(self, chat_id, **page))
        return pages[-1]

    monkeypatch.setattr(MemoryStore, "read_history", reading)
    return pages


async def long_chat(
    world: World, replica: SimulatedReplica, *, begins_with: Sequence[NewMessage] = (), ends_with: Sequence[str] = ()
) -> Chat:
    """A chat at rest with a history that nobody summarised."""
    turns = (
        (user(f"{number} {WORDS}"), NewMessage(Role.ASSISTANT, (TextPart(f"answer {number}"),), "stop"))
        for number in range(TURNS)
    )
    messages = (*begins_with, *(message for turn in turns for message in turn), *map(user, ends_with))
    outcome = await replica.transitions.create(NewChat(uuid4(), OWNER, "long", None, messages, at_rest=True))
    return Chat(world, outcome.chat.id)


def user(words: str) -> NewMessage:
    return NewMessage(Role.USER, (TextPart(words),))


def messages_of(pages: list[HistoryPage]) -> int:
    return sum(len(page.messages) for page in pages)


async def test_no_more_is_read_than_the_model_can_be_sent(world: World, read: list[HistoryPage]) -> None:
    """P10"""
    world.window = WINDOW
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "and now?")
    request = await world.model.next_call()
    assert text_of(request.request.messages[-1].parts) == INSTRUCTION
    assert f"answer {TURNS - 1}" in text_of(request.request.messages[0].parts), "the newest is what is summarised"
    assert messages_of(read) < TURNS / 5
    request.answer("They said many words.")
    call = await world.model.next_call()
    assert [text_of(message.parts).removeprefix(HEADING).strip() for message in call.request.messages] == [
        "They said many words.",
        "and now?",
    ]
    call.answer("Now this.")
    await chat.until_status("waiting")


async def test_a_later_turn_reads_from_the_summary_on(world: World, read: list[HistoryPage]) -> None:
    world.window = WINDOW
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "and now?")
    (await world.model.next_call()).answer("They said many words.")
    (await world.model.next_call()).answer("Now this.")
    await chat.until_status("waiting")
    read.clear()
    await a.send(chat, "and then?")
    call = await world.model.next_call()
    assert [text_of(message.parts) for message in call.request.messages][1:] == ["and now?", "Now this.", "and then?"]
    assert messages_of(read) < 10


async def test_the_system_text_at_its_beginning_is_kept(world: World) -> None:
    world.window = WINDOW
    a = await world.replica()
    chat = await long_chat(world, a, begins_with=[NewMessage(Role.SYSTEM, (TextPart("Be brief."),))])
    await a.send(chat, "and now?")
    request = await world.model.next_call()
    assert request.prompt[0] == "system: Be brief."
    request.answer("They said many words.")
    assert (await world.model.next_call()).prompt[0] == "system: Be brief."


async def test_what_nothing_answered_is_not_left_out_however_long_it_is(world: World) -> None:
    """P1: where there is no room for it beside a summary, the turn says so."""
    world.window = WINDOW
    a = await world.replica()
    chat = await long_chat(world, a, ends_with=[f"question {number} " + "x" * 100_000 for number in range(4)])
    await a.send(chat, "and now?")
    (await world.model.next_call()).answer("They said many words.")
    await chat.until_status("error")
    assert chat.state.last_error is not None
    assert chat.state.last_error.code == "context_overflow"
    kept = next(part for message in chat.row.messages for part in message.parts if isinstance(part, SummaryPart)).keeps
    assert [text_of(message.parts)[:10] for message in chat.row.messages if message.id in kept] == [
        *(f"question {number}" for number in range(4)),
        "and now?",
    ]


async def test_where_no_limit_is_known_all_of_it_is_told(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "and now?")
    assert len((await world.model.next_call()).request.messages) == 2 * TURNS + 1


async def test_a_model_that_takes_more_is_told_more(world: World) -> None:
    """What was read for another one is read again."""
    windows = {None: WINDOW, "large": Window(context_tokens=1_000_000, output_tokens=10)}
    a = await world.replica()
    world.window_of = windows.get
    chat = await long_chat(world, a)
    await a.send(chat, "and now?")
    request = await world.model.next_call()
    await a.send(chat, "once more", Busy.INTERRUPT, model="large")
    call = await world.model.next_call()
    assert request.request.model is None
    assert len(call.request.messages) == 2 * TURNS + 2


async def test_a_reader_has_its_first_events_before_all_of_them_are_read(world: World) -> None:
    """P10: the first page is short."""
    a = await world.replica()
    chat = await long_chat(world, a)
    pages: list[int] = []
    read_messages = a.store.read_messages

    async def reading(*args: Any, **page: Any) -> Any:
        found = await read_messages(*args, **page)
        pages.append(len(found.messages))
        return found

    a.store.read_messages = reading  # type: ignore[method-assign]
    reader = await a.read(chat)
    await reader.until_line("queue []")
    assert pages[0] <= 20 < pages[1]
    assert len([line for line in reader.story if line.startswith("user: ")]) == TURNS
