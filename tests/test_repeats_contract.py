"""What every ``Store`` does with an owner's commit that comes again: it recognises that one, and no other."""

from __future__ import annotations

import pytest
from chat_states import assistant
from contract_worlds import World, fence_of

from chatcluster.chat import (
    Busy,
    CommitStep,
    ErrorInfo,
    Fail,
    FinishInterruption,
    FinishTurn,
    OwnerCommand,
    Release,
    Retry,
    ScheduleRetry,
    StartAttempt,
)
from chatcluster.errors import OwnershipError

ANSWER = FinishTurn((assistant("the answer"),))
STEP = CommitStep((assistant("looking", "call"),))
FAILURE = Fail(ErrorInfo("generic", "it failed"))
RETRY = ScheduleRetry(Retry(attempt=1, delay_ms=60_000, error="busy", kind="overloaded"))


pytest_plugins = ["contract_fixtures"]


@pytest.mark.parametrize("busy", [None, Busy.QUEUE, Busy.INTERRUPT])
async def test_a_repeated_commit_is_recognised_and_writes_nothing(world: World, busy: Busy | None) -> None:
    """P1: no answer is in the history twice."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    if busy is not None:
        await world.send(chat_id, "next", busy)
    command = FinishInterruption(assistant("half")) if busy is Busy.INTERRUPT else ANSWER
    first = await world.store.commit(fence_of(chat), command)
    before = await world.store.read(chat_id)
    repeated = await world.store.commit(fence_of(chat), command)
    assert repeated.replayed
    assert not first.replayed
    assert repeated.messages == first.messages
    assert repeated.chat == first.chat
    assert await world.store.read(chat_id) == before


async def test_a_repeated_commit_is_recognised_after_the_chat_went_on(world: World) -> None:
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    first = await world.store.commit(fence_of(chat), ANSWER)
    await world.send(chat_id, "next")
    taken = await world.claim()
    repeated = await world.store.commit(fence_of(chat), ANSWER)
    assert repeated.messages == first.messages
    assert repeated.chat == taken.chat, "the chat as it is now: the caller sees that it is not its own any more"


async def test_a_repeated_step_does_not_open_its_calls_again(world: World) -> None:
    """P7"""
    await world.chat()
    chat = (await world.claim()).chat
    first = await world.store.commit(fence_of(chat), STEP)
    await world.store.commit(fence_of(chat), STEP)
    finished = await world.store.commit(fence_of(first.chat), FAILURE)
    assert len(finished.messages) == 1, "one call, one result"


@pytest.mark.parametrize(
    "other",
    [
        Release(),
        FAILURE,
        FinishInterruption(),
        FinishInterruption(assistant("the answer")),
        StartAttempt(),
        RETRY,
        CommitStep(ANSWER.messages),
        FinishTurn((assistant("another answer"),)),
    ],
    ids=lambda command: type(command).__name__,
)
@pytest.mark.parametrize("first", [ANSWER, STEP], ids=lambda command: type(command).__name__)
async def test_another_commit_from_the_same_history_is_refused_and_not_taken_for_a_repeat(
    world: World, first: OwnerCommand, other: OwnerCommand
) -> None:
    """P1, P2: an owner is told that something was done only if that is what it asked for."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    await world.store.commit(fence_of(chat), first)
    before = await world.store.read(chat_id)
    with pytest.raises(OwnershipError):
        await world.store.commit(fence_of(chat), other)
    assert await world.store.read(chat_id) == before


async def test_a_commit_without_messages_leaves_nothing_that_a_later_one_is_taken_for(world: World) -> None:
    await world.chat()
    chat = (await world.claim()).chat
    await world.store.commit(fence_of(chat), FinishTurn())
    for again in (FinishTurn(), ANSWER, Release()):
        with pytest.raises(OwnershipError):
            await world.store.commit(fence_of(chat), again)
