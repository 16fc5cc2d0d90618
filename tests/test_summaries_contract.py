"""Summaries in every ``Store``: committed whole, known by their versions, read and counted from the newest one on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from chat_states import assistant, summary, text
from contract_worlds import OWNER, World, Worlds, fence_of, texts

from chatcluster.chat import CommitSummary, Compact, Edit, FinishTurn, Status
from chatcluster.content import SummaryPart
from chatcluster.errors import ChatFull, Moved
from chatcluster.ports import Chat, Outcome

BYTES_MAX = 64 << 10
LONG = "x" * 20_000


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(worlds: Worlds) -> AsyncIterator[World]:
    async with worlds(history_bytes_max=BYTES_MAX) as world:
        yield world


async def turn(world: World, chat_id: UUID, answer: str = "an answer") -> Chat:
    """Answer what the chat was asked."""
    return (await world.store.commit(fence_of((await world.claim()).chat), FinishTurn((assistant(answer),)))).chat


async def summarised(world: World, chat_id: UUID, words: str, *keeps: int) -> Outcome:
    """Summarise a running chat, in a tenure of its own, and leave it to that."""
    chat = (await world.claim()).chat
    return await world.store.commit(fence_of(chat), CommitSummary(summary(words, *keeps, call_id=words)))


async def by_request(world: World, chat_id: UUID, words: str) -> Chat:
    await world.store.apply(chat_id, Compact(), owner_id=OWNER)
    return (await summarised(world, chat_id, words)).chat


async def test_a_summary_in_mid_turn_starts_the_next_attempt_behind_it(world: World) -> None:
    chat_id = await world.chat("hello")
    outcome = await summarised(world, chat_id, "They said hello.")
    chat = outcome.chat
    assert (chat.status, chat.attempt) == (Status.RUNNING, 1)
    assert chat.summaries == (chat.history_version,) == (outcome.messages[0].revision,)
    assert [str(message.role) for message in outcome.messages] == ["assistant", "tool"]
    assert (await world.store.get(chat_id)).summaries == chat.summaries


async def test_one_that_a_user_asked_for_lets_the_chat_rest(world: World) -> None:
    chat_id = await world.chat("hello")
    await turn(world, chat_id)
    chat = await by_request(world, chat_id, "They said hello.")
    assert (chat.status, chat.compacting, chat.worker_id) == (Status.WAITING, False, None)


async def test_a_repeat_of_its_commit_is_recognised(world: World) -> None:
    await world.chat("hello")
    chat = (await world.claim()).chat
    command = CommitSummary(summary("They said hello."))
    first = await world.store.commit(fence_of(chat), command)
    again = await world.store.commit(fence_of(chat), command)
    assert again.replayed
    assert again.messages == first.messages
    with pytest.raises(Moved):
        await world.store.commit(fence_of(chat), CommitSummary(summary("Something else.")))


async def test_a_history_is_read_from_the_summary_on_that_is_named(world: World) -> None:
    chat_id = await world.chat(LONG)
    await turn(world, chat_id, LONG)
    chat = await by_request(world, chat_id, "It was long.")
    await world.send(chat_id, "more")
    page = await world.page(chat_id, since=chat.summaries[-1], page_bytes=32 << 10)
    assert texts(page.messages) == ["", "", "more"]
    assert any(isinstance(part, SummaryPart) for part in page.messages[1].parts)
    behind = await world.page(chat_id, since=chat.summaries[-1], after=page.messages[1].id)
    assert texts(behind.messages) == ["more"]
    assert len((await world.page(chat_id)).messages) == 5, "the whole of it is there still"


async def test_what_a_chat_may_hold_counts_from_its_newest_summary_on(world: World) -> None:
    chat_id = await world.chat(LONG)
    await turn(world, chat_id, LONG)
    await world.send(chat_id, LONG)
    await turn(world, chat_id)
    with pytest.raises(ChatFull):
        await world.send(chat_id, LONG)
    await by_request(world, chat_id, "It was long.")
    for _ in range(2):
        await world.send(chat_id, LONG)
        await turn(world, chat_id)
    with pytest.raises(ChatFull):
        await world.send(chat_id, LONG * 2)


async def test_an_edit_forgets_the_summaries_of_what_it_deletes_and_no_other(world: World) -> None:
    chat_id = await world.chat("first")
    await turn(world, chat_id)
    one = (await by_request(world, chat_id, "one")).summaries
    second = (await world.send(chat_id, "second")).message
    assert second is not None
    await turn(world, chat_id)
    assert len((await by_request(world, chat_id, "two")).summaries) == 2
    edited = await world.store.apply(chat_id, Edit(second.id, text("better")), owner_id=OWNER)
    assert edited.chat.summaries == one
    await turn(world, chat_id)
    first = (await world.history(chat_id))[0]
    assert (await world.store.apply(chat_id, Edit(first.id, text("best")), owner_id=OWNER)).chat.summaries == ()


async def test_an_edit_has_the_room_that_the_summary_before_it_leaves(world: World) -> None:
    chat_id = await world.chat(LONG)
    await turn(world, chat_id, LONG)
    await by_request(world, chat_id, "It was long.")
    asked = (await world.send(chat_id, "more")).message
    assert asked is not None
    await turn(world, chat_id)
    await world.store.apply(chat_id, Edit(asked.id, text(LONG * 2)), owner_id=OWNER)


async def test_what_was_promoted_with_a_summary_is_behind_it(world: World) -> None:
    chat_id = await world.chat("hello")
    await turn(world, chat_id)
    await world.store.apply(chat_id, Compact(), owner_id=OWNER)
    await world.queue(chat_id, "next")
    outcome = await summarised(world, chat_id, "They said hello.")
    assert outcome.chat.status is Status.RUNNING
    assert texts(outcome.messages) == ["", "", "next"]
    edited = await world.store.apply(chat_id, Edit(outcome.messages[-1].id, text("another")), owner_id=OWNER)
    assert edited.chat.summaries == outcome.chat.summaries
