"""What the server of a call asks the user is shown on every replica, answered once, and never waited for in vain."""

from __future__ import annotations

import pytest
import trio

from chatcluster.chat import AnswerQuestions, Busy
from chatcluster.chat.calls import CANCELLED_ASKING_TEXT, NOT_ANSWERED_TEXT
from chatcluster.chat.questions import Question, Replies, Reply, ReplyAction
from chatcluster.errors import (
    CallAnswered,
    CallChanged,
    ChatArchived,
    InvalidRequest,
    NotAllowedInStatus,
    ToolCallNotFound,
)
from chatcluster.ports import Approval, Effect, Progressed
from chatcluster.ports.toolbox import Asked, InputRequired
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_tools import Run, tool
from loops.tool_scenes import calling, finish, two_runs

NAME = Question(
    "name", "Your name?", {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
)
ADA: Replies = {"name": Reply(ReplyAction.ACCEPT, {"name": "Ada"})}
NO: Replies = {"name": Reply(ReplyAction.DECLINE)}


async def parked(world: World, a: SimulatedReplica, effect: Effect = Effect.ONCE) -> tuple[Chat, Reader]:
    """A chat whose call ended with a question, before the eyes of a reader."""
    chat = await calling(world, a, "c1", name="crm__add", tools=(tool("crm__add", effect),))
    reader = await a.read(chat)
    (await world.tools.next_run()).crash(InputRequired((NAME,), '"state"'))
    await reader.until_status("requires_action")
    return chat, reader


class Live:
    """A call that runs while its server asks."""

    def __init__(self, chat: Chat, reader: Reader, run: Run) -> None:
        self.chat = chat
        self.reader = reader
        self.run = run
        self.replies: list[Replies] = []

    def ask(self, *questions: Question) -> None:
        self.run.progressed(Asked(questions or (NAME,), self.replies.append))

    async def asked(self) -> dict[str, object]:
        """The question as the reader is shown it."""
        await self.reader.until(lambda reader: bool(asked_of(reader)))
        return asked_of(self.reader)[-1]


def asked_of(reader: Reader) -> list[dict[str, object]]:
    events = [event for event in reader.events if event.type == "action_required"]
    return [call for event in events for call in event.data["calls"]]


async def live(world: World, a: SimulatedReplica, effect: Effect = Effect.ONCE, **fields: float) -> Live:
    chat = await calling(world, a, "c1", name="crm__add", tools=(tool("crm__add", effect, **fields),))
    reader = await a.read(chat)
    return Live(chat, reader, await world.tools.next_run())


async def test_p7_an_answer_is_given_to_the_run_that_it_was_asked_in_and_to_no_other(world: World) -> None:
    """The next owner runs the call from its beginning: its server asks again, if it still wants to know."""
    a, _ = await world.cluster(2)
    asking = await live(world, a, Effect.READ)
    asking.ask()
    await asking.asked()
    await a.apply(asking.chat, AnswerQuestions("c1", NO))
    await world.until(lambda: asking.replies == [NO])
    world.owner_of(asking.chat).kill()
    run = await world.tools.next_run()
    assert (run.call.call_id, run.call.answers) == ("c1", None)
    run.give("four")
    await finish(world, asking.chat)
    assert asking.chat.results["c1"].endswith("four")


# --- a server that ends the request with its question -----------------------------------------


async def test_a_call_that_ends_with_a_question_waits_without_an_owner_and_goes_on_with_the_answer(
    world: World,
) -> None:
    a, b = await world.cluster(2)
    chat, reader = await parked(world, a)
    assert chat.state.worker_id is None, "whoever waits holds no slot"
    (call,) = asked_of(reader)
    assert (call["kind"], call["may_have_run"]) == ("question", False)
    assert call["questions"] == [{"key": "name", "message": "Your name?", "schema": NAME.schema}]
    await b.apply(chat, AnswerQuestions("c1", ADA, str(call["digest"])))
    run = await world.tools.next_run()
    assert (run.call.call_id, run.call.answers, run.call.resume) == ("c1", ADA, '"state"')
    run.give("added Ada")
    await finish(world, chat)
    assert chat.results == {"c1": "added Ada"}, "and nothing of a worker that died"


async def test_a_second_question_is_another_one(world: World) -> None:
    a = await world.replica()
    chat, reader = await parked(world, a)
    first = str(asked_of(reader)[-1]["digest"])
    await a.apply(chat, AnswerQuestions("c1", ADA))
    (await world.tools.next_run()).crash(InputRequired((NAME,), '"more"'))
    await chat.until_status("requires_action")
    with pytest.raises(CallChanged):
        await a.apply(chat, AnswerQuestions("c1", ADA, first))
    await a.apply(chat, AnswerQuestions("c1", NO))
    run = await world.tools.next_run()
    assert (run.call.answers, run.call.resume) == (NO, '"more"')
    run.give("never mind")
    await finish(world, chat)


async def test_p4_a_question_outlives_every_replica(world: World) -> None:
    a = await world.replica()
    chat, _ = await parked(world, a)
    a.kill()
    b = await world.replica()
    await b.apply(chat, AnswerQuestions("c1", ADA))
    (await world.tools.next_run()).give("added Ada")
    await finish(world, chat)
    assert chat.results == {"c1": "added Ada"}


async def test_of_ten_answers_one_is_taken(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _ = await parked(world, a)
    lost: list[CallAnswered | NotAllowedInStatus] = []

    async def answer(replica: SimulatedReplica) -> None:
        try:
            await replica.apply(chat, AnswerQuestions("c1", ADA))
        except (CallAnswered, NotAllowedInStatus) as error:
            lost.append(error)

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(answer, (a, b)[number % 2])
    assert len(lost) == 9
    (await world.tools.next_run()).give()
    await finish(world, chat)


async def test_past_its_deadline_the_turn_goes_on_alone(world: World) -> None:
    a = await world.replica(answer_seconds=60.0)
    chat, _ = await parked(world, a)
    call = await world.model.next_call()
    assert chat.results == {"c1": NOT_ANSWERED_TEXT}
    call.answer("Never mind.")
    await chat.until_status("waiting")


@pytest.mark.parametrize("deed", ["interrupt", "archive", "edit", "send"])
async def test_whatever_the_user_does_instead_the_call_has_one_result(world: World, deed: str) -> None:
    a = await world.replica()
    chat, _ = await parked(world, a)
    match deed:
        case "interrupt":
            await a.interrupt(chat)
            await chat.until_status("waiting")
        case "archive":
            await a.archive(chat)
            await chat.until(lambda chat: chat.state.archived)
        case "edit":
            await a.edit(chat, "hello", "better")
        case _:
            await a.send(chat, "forget it", Busy.INTERRUPT)
    if deed != "edit":
        assert chat.results == {"c1": CANCELLED_ASKING_TEXT}
    if deed in ("edit", "send"):
        (await world.model.next_call()).answer("Well.")
        await chat.until_status("waiting")
    with pytest.raises((CallAnswered, ChatArchived, NotAllowedInStatus, ToolCallNotFound)):
        await a.apply(chat, AnswerQuestions("c1", ADA))


@pytest.mark.parametrize(
    "replies",
    [
        {},
        {"other": Reply(ReplyAction.DECLINE)},
        {"name": Reply(ReplyAction.ACCEPT)},
        {"name": Reply(ReplyAction.ACCEPT, {"name": 7})},
        {"name": Reply(ReplyAction.ACCEPT, {"name": "Ada", "more": "x"})},
        {"name": Reply(ReplyAction.DECLINE, {"name": "Ada"})},
    ],
    ids=["none", "another", "empty", "type", "unknown", "declined"],
)
async def test_what_is_no_answer_is_refused_and_the_call_waits_on(world: World, replies: Replies) -> None:
    a = await world.replica()
    chat, _ = await parked(world, a)
    with pytest.raises(InvalidRequest):
        await a.apply(chat, AnswerQuestions("c1", replies))
    assert chat.status == "requires_action"


# --- a server that holds the request meanwhile ------------------------------------------------


async def test_a_running_call_that_asks_is_shown_answered_anywhere_and_goes_on(world: World) -> None:
    a, b = await world.cluster(2)
    one = await live(world, a)
    one.ask()
    call = await one.asked()
    assert (call["kind"], call["may_have_run"], one.chat.status) == ("question", False, "running")
    await b.apply(one.chat, AnswerQuestions("c1", ADA, str(call["digest"])))
    await world.until(lambda: one.replies == [ADA])
    one.run.give("added Ada")
    await finish(world, one.chat)
    assert world.tools.effects["c1"] == 1
    assert one.chat.results == {"c1": "added Ada"}


async def test_time_stands_still_for_a_call_that_asks(world: World) -> None:
    a = await world.replica(live_answer_seconds=300.0)
    one = await live(world, a, idle_seconds=5.0, total_seconds=10.0)
    one.ask()
    await one.asked()
    one.run.progressed(Progressed(1.0))
    await trio.sleep(200)
    await a.apply(one.chat, AnswerQuestions("c1", ADA))
    await world.until(lambda: one.replies == [ADA])
    one.run.give("added Ada")
    await finish(world, one.chat)
    assert one.chat.results == {"c1": "added Ada"}


async def test_nobody_answers_in_time_so_the_server_is_told_that_the_user_cancelled(world: World) -> None:
    a = await world.replica(live_answer_seconds=60.0)
    one = await live(world, a)
    one.ask()
    await one.asked()
    await world.until(lambda: bool(one.replies), within=70)
    assert one.replies == [{"name": Reply(ReplyAction.CANCEL)}]
    with pytest.raises(CallAnswered):
        await a.apply(one.chat, AnswerQuestions("c1", ADA))
    one.run.give("without a name")
    await finish(world, one.chat)


async def test_a_question_that_its_server_withdraws_is_asked_no_longer(world: World) -> None:
    a = await world.replica()
    one = await live(world, a, idle_seconds=5.0)
    one.ask()
    await one.asked()
    one.run.progressed(Asked((), one.replies.append))
    await one.chat.until(lambda chat: not chat.state.open_calls[0].asks_now)
    with pytest.raises(CallAnswered):
        await a.apply(one.chat, AnswerQuestions("c1", ADA))
    await world.until(lambda: one.run.cancelled)
    await finish(world, one.chat)
    assert "without a sign of progress" in one.chat.results["c1"], "time goes on"
    assert one.replies == []


async def test_a_question_in_the_place_of_another_has_a_time_of_its_own(world: World) -> None:
    a = await world.replica(live_answer_seconds=60.0)
    one = await live(world, a)
    one.ask(NAME)
    await one.asked()
    await trio.sleep(40)
    one.ask(Question("other", "And yours?"))
    await one.reader.until(lambda reader: "And yours?" in str(asked_of(reader)[-1]))
    await trio.sleep(40)
    await a.apply(one.chat, AnswerQuestions("c1", {"other": Reply(ReplyAction.ACCEPT)}))
    await world.until(lambda: bool(one.replies))
    assert one.replies == [{"other": Reply(ReplyAction.ACCEPT)}]
    one.run.give()
    await finish(world, one.chat)


async def test_a_call_that_ends_while_its_question_is_written_leaves_nothing_behind(world: World) -> None:
    a = await world.replica(live_answer_seconds=60.0)
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", idle_seconds=900.0),))
    one, two = await two_runs(world)
    reader = await a.read(chat)
    held = a.database_wire.hold("commit")
    Live(chat, reader, one).ask()
    await held.reached.wait()
    one.give("asked in vain")
    await world.settle()
    held.release()
    await trio.sleep(100)
    two.give("took its time")
    await finish(world, chat)
    assert chat.results == {"c1": "asked in vain", "c2": "took its time"}


async def test_p5_a_stop_reaches_a_call_that_asks(world: World) -> None:
    a = await world.replica()
    one = await live(world, a)
    one.ask()
    await one.asked()
    await a.interrupt(one.chat)
    await one.chat.until_status("waiting")
    assert one.run.cancelled
    assert list(one.chat.results) == ["c1"]


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.READ], ids=str)
async def test_p7_the_owner_dies_while_the_server_asks(world: World, effect: Effect) -> None:
    """What may be run again is, and asks again; of the rest the outcome is unknown."""
    a, _ = await world.cluster(2)
    one = await live(world, a, effect)
    one.ask()
    await one.asked()
    world.owner_of(one.chat).kill()
    if effect is Effect.READ:
        run = await world.tools.next_run()
        assert run.call.answers is None
        with pytest.raises(CallAnswered):
            await world.owner_of(one.chat).apply(one.chat, AnswerQuestions("c1", ADA))
        run.give("added")
    await finish(world, one.chat)
    assert ("run again" if effect is Effect.READ else "outcome is unknown") in one.chat.results["c1"]


async def test_a_question_beside_a_call_that_waits_for_an_approval_is_answered_first(world: World) -> None:
    a = await world.replica()
    world.tools.offered = [tool("ask"), tool("send", Effect.ONCE, approval=Approval.ASK)]
    chat = await a.create("hello")
    reader = await a.read(chat)
    call = await world.model.next_call()
    call.ask_for_tool("c1", "ask", "{}")
    call.ask_for_tool("c2", "send", "{}")
    call.finish("tool_calls")
    one = Live(chat, reader, await world.tools.next_run())
    one.ask()
    assert (await one.asked())["call_id"] == "c1"
    await a.apply(chat, AnswerQuestions("c1", ADA))
    await world.until(lambda: one.replies == [ADA])
    one.run.give("asked")
    await chat.until_status("requires_action")
    await a.approve(chat, "c2")
    (await world.tools.next_run()).give("sent")
    await finish(world, chat)
