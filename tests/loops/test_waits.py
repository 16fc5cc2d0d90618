"""Whatever a chat waits for, an approval, its client, a sign-in or the answer to a question: it outlives every replica
and Redis, is answered once, and is over after its time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import trio

from chatcluster.chat import AnswerQuestions, Approve, Deny, SignedIn, SubmitToolResults, ToolResult, UserCommand
from chatcluster.errors import CallAnswered, CallChanged, NotAllowedInStatus, StoreUnavailable
from chatcluster.ports import Approval, Effect, InputRequired, Outcome, SignInRequired
from loops.cluster_world import Chat, SimulatedReplica, World, open_world
from loops.scripted_tools import tool
from loops.test_call_questions import ADA, NAME
from loops.test_families import KillAt

SECONDS = 60.0
SETTINGS: dict[str, Any] = {f"{what}_seconds": SECONDS for what in ("approval", "client_tool", "sign_in", "answer")}
CALL = "c1"


class Wait(NamedTuple):
    """``refusal``: what the server of the tool says before there is an answer."""

    name: str
    answer: UserCommand
    runs: bool = True
    approval: Approval = Approval.NEVER
    refusal: Exception | None = None


WAITS = {
    "approval": Wait("tool", Approve(CALL), approval=Approval.ASK),
    "client": Wait("mine", SubmitToolResults((ToolResult(CALL, "42"),)), runs=False),
    "sign_in": Wait("tool", SignedIn((CALL,)), refusal=SignInRequired()),
    "question": Wait("tool", AnswerQuestions(CALL, ADA), refusal=InputRequired((NAME,), '"state"')),
}
each_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))


async def begun(world: World, a: SimulatedReplica, wait: Wait) -> Chat:
    """A chat that waits, and that nobody owns."""
    world.tools.offered = [tool("tool", Effect.ONCE, approval=wait.approval)]
    chat = await a.create("hello", client_tools=["mine"])
    (await world.model.next_call()).call_tools(CALL, name=wait.name)
    if wait.refusal is not None:
        (await world.tools.next_run()).crash(wait.refusal)
    await chat.until_status("requires_action")
    await chat.until(lambda chat: chat.owner is None)
    return chat


async def finish(world: World, chat: Chat, wait: Wait) -> None:
    """The call is run, where it is to be, and the model says its last word."""
    if wait.runs:
        (await world.tools.next_run()).give("42")
    (await world.model.next_call()).answer("There.")
    await chat.until_status("waiting")
    assert chat.results == {CALL: "42"}


@each_wait
async def test_p4_a_chat_that_waits_survives_a_restart_of_all_replicas_and_of_redis(world: World, wait: Wait) -> None:
    replicas = await world.cluster(2, **SETTINGS)
    chat = await begun(world, replicas[0], wait)
    for replica in replicas:
        replica.kill()
    world.broker.disconnect()
    world.broker.flush()
    world.broker.connect()
    b = await world.replica(**SETTINGS)
    assert chat.status == "requires_action"
    await b.apply(chat, wait.answer)
    await finish(world, chat, wait)


@each_wait
async def test_of_ten_answers_at_once_from_all_replicas_one_is_taken_and_nine_are_409(world: World, wait: Wait) -> None:
    replicas = await world.cluster(3, **SETTINGS)
    chat = await begun(world, replicas[0], wait)
    taken: list[Outcome] = []
    refused: list[int] = []

    async def answer(number: int) -> None:
        try:
            taken.append(await replicas[number % 3].apply(chat, wait.answer))
        except (CallAnswered, NotAllowedInStatus) as error:
            refused.append(error.status)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(answer, number)
    assert (len(taken), refused) == (1, [409] * 9)
    await finish(world, chat, wait)


@each_wait
async def test_past_its_deadline_it_goes_on_alone(world: World, wait: Wait) -> None:
    a, _ = await world.cluster(2, **SETTINGS)
    chat = await begun(world, a, wait)
    await trio.sleep(SECONDS - 5)
    assert chat.status == "requires_action"
    call = await world.model.next_call()
    (text,) = chat.results.values()
    assert "in time" in text
    with pytest.raises((CallAnswered, NotAllowedInStatus)):
        await a.apply(chat, wait.answer)
    call.answer("Never mind.")
    await chat.until_status("waiting")


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@each_wait
async def test_whoever_is_killed_at_whatever_step_it_is_answered_once(wait: Wait, before: bool) -> None:
    number, killed = 1, True
    while killed:
        async with open_world() as world:
            kill = KillAt(number, before=before)
            for replica in await world.cluster(3, **SETTINGS):
                kill.watch(replica)
            chat = await _played(world, wait)
            assert set(chat.results) == set(chat.calls) == {CALL}, number
            assert world.tools.effects[CALL] <= 1 + (wait.refusal is not None), number
            killed = kill.killed is not None
        number += 1
    assert number > 3, "there are so many steps"


async def _played(world: World, wait: Wait) -> Chat:
    """A turn in which everybody does their part, until it is over."""
    world.tools.offered = [tool("tool", Effect.ONCE, approval=wait.approval)]
    (a, *_) = world.others()
    chat = await a.create("hello", client_tools=["mine"])

    async def model() -> None:
        while True:
            call = await world.model.next_call()
            if chat.results:
                call.answer("There.")
            else:
                call.call_tools(CALL, name=wait.name)

    async def tools() -> None:
        while True:
            run = await world.tools.next_run()
            if wait.refusal is not None and len(world.tools.runs) == 1:
                run.crash(wait.refusal)
            else:
                run.give("42")

    async def people() -> None:
        while True:
            await trio.sleep(0.5)
            if chat.status == "requires_action":
                for replica in world.replicas:  # one of them may be dead
                    with suppress(CallAnswered, NotAllowedInStatus, StoreUnavailable):
                        await _answer(replica, chat, wait)

    async with trio.open_nursery() as nursery:
        for part in (model, tools, people):
            nursery.start_soon(part)
        await chat.until_status("waiting", within=2 * SECONDS)
        nursery.cancel_scope.cancel()
    return chat


async def _answer(replica: SimulatedReplica, chat: Chat, wait: Wait) -> None:
    """Nobody wants a call run again that may have run."""
    try:
        await replica.apply(chat, wait.answer)
    except CallChanged:
        await replica.apply(chat, Deny(CALL))
