"""The end of a turn is a row of the transaction that ends it, in memory as on Postgres: exactly one for each turn."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from chat_states import assistant, text
from contract_worlds import OWNER, PAGE_BYTES, World, fence_of

from chatcluster.chat import (
    Archive,
    Busy,
    Compact,
    Edit,
    ErrorInfo,
    Fail,
    Fence,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    Release,
    Rename,
    Status,
)
from chatcluster.errors import Fenced
from chatcluster.parts import EndedTurn, NewMessage, Role, TextPart
from chatcluster.ports import Chat, Outcome

ANSWER = FinishTurn((assistant("the answer"),))


pytest_plugins = ["contract_fixtures"]


async def turns(world: World, chat_id: UUID, after: int = 0, **bounds: int) -> list[EndedTurn]:
    read = await world.store.read_newer(
        chat_id, after_version=0, after_id=0, queue_version=-1, limit=99, bytes_max=PAGE_BYTES, turns_after=after
    )
    is_whole = not bounds
    page = await world.store.read_messages(
        chat_id,
        after_version=0,
        after_id=0,
        up_to_version=bounds.pop("up_to", 1000),
        limit=99,
        bytes_max=PAGE_BYTES,
        turns_after=after,
        **bounds,
    )
    assert not is_whole or page.turns == read.turns
    return list(page.turns)


async def commit(world: World, chat: Chat, command: Any, *, known: bool = True) -> Outcome:
    return await world.store.commit(fence_of(chat), command, known=chat if known else None)


def told(outcome: Outcome) -> tuple[int, str, str | None]:
    assert outcome.ended is not None
    assert outcome.ended.revision == outcome.chat.snapshot_version
    assert 0 <= outcome.ended.duration_ms < 60_000
    return outcome.ended.message_id, outcome.ended.outcome, outcome.ended.code


@pytest.mark.parametrize("known", [True, False], ids=["in one statement", "after a lock"])
async def test_an_answer_ends_the_turn_of_the_message_before_it(world: World, known: bool) -> None:
    chat_id = await world.chat("hello")
    outcome = await commit(world, (await world.claim()).chat, ANSWER, known=known)
    (asked, _) = await world.history(chat_id)
    assert told(outcome) == (asked.id, "finished", None)
    assert await turns(world, chat_id) == [outcome.ended]


@pytest.mark.parametrize("known", [True, False], ids=["in one statement", "after a lock"])
async def test_an_error_ends_the_turn_with_its_code(world: World, known: bool) -> None:
    chat_id = await world.chat("hello")
    outcome = await commit(world, (await world.claim()).chat, Fail(ErrorInfo("auth", "no")), known=known)
    (asked,) = await world.history(chat_id)
    assert told(outcome) == (asked.id, "error", "auth")
    assert await turns(world, chat_id) == [outcome.ended]


async def test_an_interruption_ends_the_turn_when_it_is_finished_and_not_before(world: World) -> None:
    chat_id = await world.chat("hello")
    await world.claim()
    asked = await world.store.apply(chat_id, Interrupt(), owner_id=OWNER)
    assert asked.ended is None
    outcome = await commit(world, asked.chat, FinishInterruption())
    assert told(outcome)[1] == "interrupted"
    assert await turns(world, chat_id) == [outcome.ended]


async def test_the_next_of_the_queue_begins_a_turn_of_its_own(world: World) -> None:
    chat_id = await world.chat("first")
    chat = (await world.claim()).chat
    await world.queue(chat_id, "second")
    first = await commit(world, chat, ANSWER)
    second = await commit(world, first.chat, ANSWER)
    asked = [message.id for message in await world.history(chat_id) if message.role is Role.USER]
    assert [told(first), told(second)] == [(asked[0], "finished", None), (asked[1], "finished", None)]
    assert await turns(world, chat_id) == [first.ended, second.ended]


async def test_an_edit_ends_the_turn_under_way_and_none_that_was_over(world: World) -> None:
    chat_id = await world.chat("hello")
    await world.claim()
    (asked,) = await world.history(chat_id)
    under_way = await world.store.apply(chat_id, Edit(asked.id, text("better")), owner_id=OWNER)
    assert told(under_way) == (asked.id, "interrupted", None)
    finished = await commit(world, under_way.chat, ANSWER)
    (better, _) = await world.history(chat_id)
    over = await world.store.apply(chat_id, Edit(better.id, text("best")), owner_id=OWNER)
    assert over.ended is None
    assert await turns(world, chat_id) == [under_way.ended, finished.ended]


async def test_what_leaves_the_turn_under_way_ends_none(world: World) -> None:
    chat_id = await world.chat("hello")
    await world.claim()
    renamed = await world.store.apply(chat_id, Rename("new"), owner_id=OWNER)
    await world.send(chat_id, "queued")
    await world.send(chat_id, "now", Busy.INTERRUPT)
    archiving = await world.store.apply(chat_id, Archive(), owner_id=OWNER)
    released = await commit(world, archiving.chat, Release())
    assert [outcome.ended for outcome in (renamed, archiving, released)] == [None, None, None]
    claimed = (await world.claim()).chat
    archived = await commit(world, claimed, FinishInterruption())
    assert archived.chat.archived
    assert [turn.outcome for turn in await turns(world, chat_id)] == ["interrupted"]


async def test_compacting_is_no_turn(world: World) -> None:
    chat_id = await world.chat("hello")
    first = await commit(world, (await world.claim()).chat, ANSWER)
    await world.store.apply(chat_id, Compact(), owner_id=OWNER)
    outcome = await commit(world, (await world.claim()).chat, ANSWER)
    assert (outcome.chat.status, outcome.ended) == (Status.WAITING, None)
    assert await turns(world, chat_id) == [first.ended]


async def test_a_repeat_of_the_commit_ends_nothing_again_and_a_stranger_nothing_at_all(world: World) -> None:
    chat_id = await world.chat("hello")
    chat = (await world.claim()).chat
    fence = fence_of(chat)
    stranger = Fence(fence.chat_id, UUID(int=7), fence.epoch, fence.history_version)
    with pytest.raises(Fenced):
        await world.store.commit(stranger, ANSWER, known=chat)
    assert await turns(world, chat_id) == []
    await commit(world, chat, ANSWER)
    assert (await commit(world, chat, ANSWER)).replayed
    assert len(await turns(world, chat_id)) == 1


async def test_turns_are_read_within_bounds_the_newest_first_to_be_told(world: World) -> None:
    chat_id = await world.chat("1")
    ended = [(await commit(world, (await world.claim()).chat, ANSWER)).ended]
    for words in ("2", "3"):
        await world.send(chat_id, words)
        ended.append((await commit(world, (await world.claim()).chat, ANSWER)).ended)
    versions = [turn.revision for turn in ended if turn is not None]
    assert await turns(world, chat_id, after=versions[0]) == ended[1:]
    assert await turns(world, chat_id, up_to=versions[1]) == ended[:2]
    assert await turns(world, chat_id, turns_max=1) == ended[2:]
    assert await turns(world, chat_id, after=versions[2]) == []


# --- chats without a message ------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [(), (NewMessage(Role.SYSTEM, (TextPart("Be brief."),)),)], ids=["empty", "prompt"])
async def test_a_chat_without_a_question_rests_until_there_is_one(world: World, prompt: tuple[NewMessage, ...]) -> None:
    outcome = await world.create(*prompt)
    assert outcome.chat.status is Status.WAITING
    assert await world.store.claim(await world.worker(), free_slots=1, batch=1) == ()
    sent = await world.send(outcome.chat.id, "hello")
    assert (sent.chat.status, sent.ended) == (Status.RUNNING, None)
    finished = await commit(world, (await world.claim()).chat, ANSWER)
    assert sent.message is not None
    assert told(finished) == (sent.message.id, "finished", None)
