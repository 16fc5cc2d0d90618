"""P7, in each state of a call whatever happens: what must not be repeated is not, and each call has one result.

A call is brought to a state, then something happens to its chat or its owner, and then everything goes on: models
answer, tools give, people approve, until the chat rests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from chatcluster.chat import AnswerQuestions, Busy
from chatcluster.ports import Approval, Asked, Effect, InputRequired
from loops.cluster_world import Chat, Hold, SimulatedReplica, World
from loops.scripted_model import Call
from loops.scripted_tools import Run, tool
from loops.test_call_questions import ADA, NAME

ENDINGS = ("waiting", "error")
STOPS = ("stop", "edit", "promote", "archive")

REST_SECONDS_MAX = 60.0


class Scene:
    """Two replicas, and a chat of the first one with a call."""

    def __init__(self, world: World, a: SimulatedReplica, b: SimulatedReplica, chat: Chat) -> None:
        self.world = world
        self.a = a
        self.b = b
        self.chat = chat
        self.runs: list[Run] = []
        """Those that run when it happens."""
        self.written: Call | None = None
        """The answer that the model is in the middle of."""
        self.hold: Hold | None = None
        """A commit that is on its way when it happens."""

    @property
    def other(self) -> SimulatedReplica:
        """One that people can still reach."""
        return self.b


async def streamed(scene: Scene) -> None:
    """The call is being written."""
    call = await scene.world.model.next_call()
    call.say("Let me see.")
    call.ask_for_tool("c1", "tool", "{")
    scene.written = call
    await scene.world.settle()


async def committed(scene: Scene) -> None:
    """The call is in the history, and about to be started."""
    step = scene.a.database_wire.hold("commit")
    (await scene.world.model.next_call()).call_tools("c1")
    await step.reached.wait()
    scene.hold = scene.a.database_wire.hold("commit")
    step.release()
    with trio.move_on_after(1):
        await scene.hold.reached.wait()  # one that may be repeated is started by now


async def running(scene: Scene) -> None:
    (await scene.world.model.next_call()).call_tools("c1")
    scene.runs.append(await scene.world.tools.next_run())


async def given(scene: Scene) -> None:
    """The tool has given its result, and the commit of that is on its way."""
    await running(scene)
    scene.hold = scene.a.database_wire.hold("commit")
    scene.runs.pop().give("42")
    await scene.hold.reached.wait()


async def answered(scene: Scene) -> None:
    """The result is in the history, and another call runs."""
    (await scene.world.model.next_call()).call_tools("c1", "c2")
    runs = {run.call.call_id: run for run in [await scene.world.tools.next_run() for _ in range(2)]}
    runs["c1"].give("42")
    await scene.chat.until(lambda chat: chat.results == {"c1": "42"})
    scene.runs.append(runs["c2"])


async def approval(scene: Scene) -> None:
    (await scene.world.model.next_call()).call_tools("c1", name="asks")
    await scene.chat.until_status("requires_action")


async def question(scene: Scene) -> None:
    """Its server has ended the request with what it asks the user."""
    (await scene.world.model.next_call()).call_tools("c1")
    (await scene.world.tools.next_run()).crash(InputRequired((NAME,), '"state"'))
    await scene.chat.until_status("requires_action")


async def asking(scene: Scene) -> None:
    """Its server asks the user, and holds the request meanwhile."""
    await running(scene)
    scene.runs[0].progressed(Asked((NAME,), lambda _: None))
    await scene.chat.until(lambda chat: any(call.asks_now for call in chat.state.open_calls))


async def client(scene: Scene) -> None:
    (await scene.world.model.next_call()).call_tools("c1", name="mine")
    await scene.chat.until_status("requires_action")


async def stop(scene: Scene) -> None:
    await scene.other.interrupt(scene.chat)


async def edit(scene: Scene) -> None:
    await scene.other.edit(scene.chat, "hello", "good morning")


async def promote(scene: Scene) -> None:
    await scene.other.send(scene.chat, "next")
    await scene.other.promote(scene.chat, "next")


async def archive(scene: Scene) -> None:
    await scene.other.archive(scene.chat)


async def steer(scene: Scene) -> None:
    await scene.other.send(scene.chat, "mind the gap", Busy.STEER)


async def kill(scene: Scene) -> None:
    scene.a.kill()


async def freeze(scene: Scene) -> None:
    scene.a.freeze()


async def drain(scene: Scene) -> None:
    scene.a.loop.drain()


STATES = (streamed, committed, running, given, answered, approval, question, asking, client)
HAPPENINGS = (stop, edit, promote, archive, steer, kill, freeze, drain)


async def go_on(scene: Scene) -> None:
    """Everybody does their part until the chat rests."""
    world = scene.world

    async def models() -> None:
        if scene.written is not None:
            scene.written.write_arguments("c1", "}")
            scene.written.finish("tool_calls")
        while True:
            (await world.model.next_call()).answer("There.")

    async def tools() -> None:
        for run in scene.runs:
            run.give("42")
        while True:
            (await world.tools.next_run()).give("42")

    async def people() -> None:
        while True:
            for call in scene.chat.state.open_calls:
                if call.state == "approval":
                    await scene.other.approve(scene.chat, call.call_id)
                elif call.state == "client":
                    await scene.other.submit(scene.chat, call.call_id, "42")
                elif call.state == "question":
                    await scene.other.apply(scene.chat, AnswerQuestions(call.call_id, ADA))
            await trio.sleep(0.5)

    async with trio.open_nursery() as nursery:
        for part in (models, tools, people):
            nursery.start_soon(_for_ever, part)
        await scene.chat.until(_rests, within=REST_SECONDS_MAX)
        nursery.cancel_scope.cancel()


async def _for_ever(part: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await part()
        except trio.TooSlowError:
            continue


def _rests(chat: Chat) -> bool:
    return chat.owner is None and (chat.state.archived or (chat.status in ENDINGS and not chat.queue))


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.READ, Effect.TRACKED])
@pytest.mark.parametrize("happens", HAPPENINGS, ids=lambda happens: happens.__name__)
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
async def test_whatever_happens_to_a_call_it_has_one_result_and_its_effect_once(
    world: World,
    state: Callable[[Scene], Awaitable[None]],
    happens: Callable[[Scene], Awaitable[None]],
    effect: Effect,
) -> None:
    world.tools.offered = [tool("tool", effect), tool("asks", effect, approval=Approval.ASK)]
    a, b = await world.cluster(2, drain_seconds=5.0)
    chat = await a.create("hello", client_tools=["mine"])
    await chat.until(lambda chat: chat.owner is not None)
    scene = Scene(world, world.owner_of(chat), b, chat)
    if scene.a is b:
        scene.b = a
    await state(scene)
    await happens(scene)
    if scene.hold is not None:
        scene.hold.release()
    await world.settle()
    if happens.__name__ in STOPS:
        assert all(run.cancelled for run in scene.runs), "the tool sees it"
    await go_on(scene)
    assert set(chat.results) == set(chat.calls), "each call has a result, and one"
    most = 2 if state is question else 1  # the first request is for the question alone
    if effect is Effect.ONCE:
        assert all(count <= most for count in world.tools.effects.values()), world.tools.effects
    again = [call_id for call_id, count in world.tools.effects.items() if count > most]
    for call_id in again:
        said = "it was run again" in chat.results[call_id]
        assert said is (effect is Effect.READ), "the model is told of it, unless it is the same run"
    if state is answered and "c1" in chat.results:
        assert chat.results["c1"] == "42", "what is history stays"
    if happens is steer and state is not streamed:
        roles = [str(message.role) for message in chat.row.messages]
        assert roles[-3:] in (["tool", "user", "assistant"], ["assistant", "user", "assistant"])
