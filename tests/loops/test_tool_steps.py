"""A step runs its tools: each call once in the history, shown while it runs, bounded, never blindly repeated (P7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from chatcluster.chat import Approve as ApproveCommand
from chatcluster.chat import Busy, Remember
from chatcluster.parts import JsonPart, NoticePart, ResultContent, TextPart
from chatcluster.ports import Approval, Effect, Progressed, Tool, ToolResult
from chatcluster.tool_plan import CALLS_MAX
from chatcluster.tool_results import KEPT_BYTES_MAX, READ_RESULT, SHOWN_BYTES_MAX, Taken
from chatcluster.tool_step import LEAVE_SECONDS
from loops.cluster_world import World
from loops.reader import Reader
from loops.scripted_tools import Run, tool
from loops.tool_scenes import calling, finish, running, two_runs

TAKEOVER_SECONDS = 0.1


# --- the way of a call ------------------------------------------------------------------------


async def test_a_call_is_run_and_the_model_goes_on_with_its_result(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    assert (run.call.call_id, run.call.name, run.call.arguments) == ("c1", "tool", {})
    run.give("42")
    call = await world.model.next_call()
    assert [str(message.role) for message in call.request.messages] == ["user", "assistant", "tool"]
    call.answer("It is 42.")
    await chat.until_status("waiting")
    assert chat.results == {"c1": "42"}
    assert chat.history[-1] == "assistant: It is 42."
    assert chat.state.open_calls == ()


async def test_the_model_is_told_of_the_tools_and_of_one_that_reads_on(world: World) -> None:
    a = await world.replica()
    world.tools.offered = [tool("look"), tool("do it!")]
    await a.create(client_tools=["mine"])
    specs = (await world.model.next_call()).request.tools
    assert [spec.name for spec in specs[:3]] == ["read_result", "mine", "look"]
    assert specs[3].name.startswith("do_it__"), "names are fit for every provider"


async def test_a_tool_of_the_client_keeps_its_name_whoever_else_has_it(world: World) -> None:
    """Its client knows it by no other; ours are known by any."""
    a = await world.replica(agents=True)
    chat = await a.create(client_tools=["spawn_agent"])
    call = await world.model.next_call()
    names = [spec.name for spec in call.request.tools if spec.name.startswith("spawn_agent")]
    assert (names[0], len(names)) == ("spawn_agent", 2)
    call.call_tools("c1", name="spawn_agent")
    await chat.until_status("requires_action")
    await a.submit(chat, "c1", "done")
    await finish(world, chat)
    assert chat.results == {"c1": "done"}


async def test_without_tools_the_model_is_told_of_none(world: World) -> None:
    a = await world.replica()
    await a.create()
    assert (await world.model.next_call()).request.tools == ()


async def test_a_chat_without_tools_opens_no_toolbox_and_the_next_turn_asks_anew(world: World) -> None:
    """A plain turn pays for no tools. A call that its model makes up is refused like any other."""
    a = await world.replica()
    world.tools.offered, world.tools.offers_any = [tool("look")], False
    chat = await a.create("hello")
    call = await world.model.next_call()
    assert call.request.tools == ()
    call.ask_for_tool("c1", "look")
    call.finish("tool_calls")
    call = await world.model.next_call()
    assert "There is no tool 'look'" in chat.results["c1"]
    assert (world.tools.opened, world.tools.asked) == (0, 0)
    world.tools.offers_any = True
    await a.send(chat, "now?")
    call.answer("Not yet.")
    assert [spec.name for spec in (await world.model.next_call()).request.tools] == ["read_result", "look"]


@pytest.mark.parametrize("reads_at", ["a", "b"])
async def test_a_call_is_shown_from_its_first_character_to_its_result(world: World, reads_at: str) -> None:
    """P3: begin, arguments, progress, result, on every replica; the messages take their place."""
    a, b = await world.cluster(2, coalesce_ms=0.0)
    world.tools.offered = [tool("look")]
    chat = await a.create("hello")
    reader = await {"a": a, "b": b}[reads_at].read(chat)
    call = await world.model.next_call()
    call.say("Let me see.")
    call.ask_for_tool("c1", "look", "")
    call.write_arguments("c1", '{"at":', ' "sky"}')
    await reader.until(lambda reader: any('"sky"' in line for line in reader.story))
    call.finish("tool_calls")
    run = await world.tools.next_run()
    assert run.call.arguments == {"at": "sky"}
    run.progressed(Progressed(0.5, 1.0, "half"))
    await reader.until(lambda reader: any("(c1 0.5)" in line for line in reader.story))
    run.give("blue")
    (await world.model.next_call()).answer("Blue.")
    await reader.until_status("waiting")
    story = [line for line in reader.story if not line.startswith(("status", "queue", "title"))]
    assert story == [
        "user: hello",
        "attempt 1",
        '… Let me see.(look)({"at":)( "sky"})',
        "assistant: Let me see.",
        "attempt 1",
        "… (c1 0.5)(c1: blue)",
        "tool: ",
        "attempt 1",
        "… Blue.",
        "assistant: Blue.",
    ]


async def test_a_reader_that_reconnects_after_every_event_gets_the_same(world: World) -> None:
    """P3: one cursor covers calls, arguments, progress and results."""
    a, b = await world.cluster(2, coalesce_ms=0.0)
    world.tools.offered = [tool("tool")]
    chat = await a.create("hello")
    reader = await b.read(chat)
    call = await world.model.next_call()
    call.ask_for_tool("c1", "tool", "")
    call.write_arguments("c1", "{", '"a": 1', "}")
    call.ask_for_tool("c2")
    call.finish("tool_calls")
    for number, run in enumerate(await two_runs(world)):
        run.progressed(Progressed(number + 1))
        await reader.until(lambda reader, n=number: any(f" {n + 1})" in line for line in reader.story))  # type: ignore[misc]
        run.give(f"result {number}")
        await chat.until(lambda chat, n=number: len(chat.results) == n + 1)  # type: ignore[misc]
    (await world.model.next_call()).answer("There.")
    await reader.until_status("waiting")
    seen = [(event.id, event.line) for event in reader.events]
    for index, (cursor, _) in enumerate(seen):
        again = await a.read(chat, cursor)
        await again.until_status("waiting")
        await world.settle()
        rest = [event.line for event in again.events if event.type == "message"]
        expected = [e.line for e in reader.events[index + 1 :] if e.type == "message"]
        assert rest == expected, f"after {cursor}"
        again.leave()


async def test_calls_that_were_not_whole_when_stop_came_are_dropped(world: World) -> None:
    a, b = await world.cluster(2)
    world.tools.offered = [tool("tool")]
    chat = await a.create()
    call = await world.model.next_call()
    call.say("Let me")
    call.ask_for_tool("c1", "tool", '{"a')
    await world.settle()
    await b.interrupt(chat)
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Let me"]
    assert chat.calls == []


async def test_an_answer_of_which_only_a_call_was_there_leaves_nothing(world: World) -> None:
    a = await world.replica()
    chat = await a.create()
    (await world.model.next_call()).ask_for_tool("c1", "tool", '{"a')
    await world.settle()
    await a.interrupt(chat)
    await chat.until_status("waiting")
    assert chat.history == ["user: hello"]


async def test_a_stop_after_the_owners_death_keeps_the_words_and_drops_the_call(world: World) -> None:
    a, b = await world.cluster(2, claim_poll_seconds=3600.0)
    chat = await a.create()
    call = await world.model.next_call()
    call.say("Let me")
    call.ask_for_tool("c1", "tool", '{"a')
    await world.settle()
    claim = b.database_wire.hold("claim")
    a.kill()
    await claim.reached.wait()
    await b.interrupt(chat)
    claim.release()
    await chat.until_status("waiting", within=TAKEOVER_SECONDS)
    assert chat.history == ["user: hello", "assistant: Let me"]


# --- what it costs ----------------------------------------------------------------------------


async def costs(world: World, effect: Effect, *call_ids: str) -> int:
    """Transactions of a turn, beyond the one that sends its message and the one that claims the chat."""
    a = await world.replica()
    chat = await calling(world, a, *call_ids, tools=(tool("tool", effect),)) if call_ids else await a.create()
    runs = [await world.tools.next_run() for _ in call_ids]
    for run in runs:
        run.give()
    await finish(world, chat)
    crossings = dict(a.database_wire.crossings)
    return sum(crossings.get(operation, 0) for operation in ("commit", "keep_result", "get", "open_calls"))


@pytest.mark.parametrize(
    ("effect", "call_ids", "transactions"),
    [
        (Effect.READ, (), 1),
        (Effect.READ, ("a",), 3),
        (Effect.READ, ("a", "b", "c"), 3),
        (Effect.IDEMPOTENT, ("a", "b"), 3),
        (Effect.ONCE, ("a",), 4),
        (Effect.ONCE, ("a", "b", "c"), 4),
    ],
)
async def test_a_step_with_tools_costs_at_most_three_transactions_more(
    world: World, effect: Effect, call_ids: tuple[str, ...], transactions: int
) -> None:
    assert await costs(world, effect, *call_ids) == transactions


async def test_a_turn_without_tools_reads_nothing_of_the_ledger(world: World) -> None:
    await costs(world, Effect.READ)
    crossings = world.replicas[0].database_wire.crossings
    assert not {"open_calls", "permissions", "keep_result", "read_result"} & set(crossings)


# --- side by side -----------------------------------------------------------------------------


async def test_calls_of_a_step_run_side_by_side_and_their_results_come_as_they_are_there(world: World) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", "c2", "c3")
    runs = {run.call.call_id: run for run in [await world.tools.next_run() for _ in range(3)]}
    runs["c2"].give("second")
    await chat.until(lambda chat: chat.results == {"c2": "second"})
    runs["c3"].give("third")
    runs["c1"].give("first")
    await finish(world, chat)
    assert list(chat.results.values()) == ["first", "second", "third"]
    assert [message.role for message in chat.row.messages] == [
        "user", "assistant", "tool", "tool", "tool", "assistant",
    ]  # fmt: skip


async def test_no_more_calls_run_at_a_time_than_the_setting_says(world: World) -> None:
    a = await world.replica(tools_concurrent=2)
    chat = await calling(world, a, *"abcde", tools=(tool("tool", Effect.ONCE),))
    runs = await two_runs(world)
    await world.settle()
    assert world.tools.idle()
    states = {call.call_id: call.state for call in chat.state.open_calls}
    assert [states[c] for c in "abcde"] == ["started", "started", "pending", "pending", "pending"], (
        "a call that waits for its place has not run"
    )
    while len(runs) < 5:
        runs[-2].give()
        runs.append(await world.tools.next_run())
    for run in runs:
        run.give()
    await finish(world, chat)
    assert set(chat.results) == set("abcde")
    assert [run.call.call_id for run in runs] == list("abcde")


async def test_a_tool_that_wants_to_runs_alone(world: World) -> None:
    a = await world.replica()
    world.tools.offered = [tool("tool"), tool("alone", runs_alone=True)]
    chat = await a.create()
    call = await world.model.next_call()
    for call_id, name in (("a", "tool"), ("b", "alone"), ("c", "tool")):
        call.ask_for_tool(call_id, name)
    call.finish("tool_calls")
    for call_id in "abc":
        run = await world.tools.next_run()
        await world.settle()
        assert run.call.call_id == call_id
        assert world.tools.idle()
        run.give()
    await finish(world, chat)


# --- what can be wrong with a call ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("teleport", "{}", "There is no tool 'teleport'"),
        ("look", '{"at"', "not JSON"),
        ("look", "[]", "not a JSON object"),
        ("look", '{"at": 5}', "5 is not of type 'string'"),
        ("forbidden", "{}", "not allowed"),
    ],
)
async def test_a_call_that_cannot_be_run_is_a_result_that_says_why(
    world: World, name: str, arguments: str, problem: str
) -> None:
    a = await world.replica()
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    look = Tool(name="look", description="", parameters=schema, effect=Effect.READ)
    world.tools.offered = [look, tool("forbidden", approval=Approval.DENY)]
    chat = await a.create()
    call = await world.model.next_call()
    call.ask_for_tool("bad", name, arguments)
    call.ask_for_tool("good", "look", '{"at": "sky"}')
    call.finish("tool_calls")
    (await world.tools.next_run()).give("blue")
    await finish(world, chat)
    assert problem in chat.results["bad"]
    assert chat.results["good"] == "blue"
    assert world.tools.effects == {"good": 1}


async def test_a_step_of_which_nothing_can_be_run_is_one_commit(world: World) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", name="teleport", tools=(tool("look"),))
    await finish(world, chat)
    assert a.database_wire.crossings["commit"] == 2
    assert "There is no tool" in chat.results["c1"]


async def test_a_tool_that_crashes_is_an_error_result_and_the_others_go_on(world: World) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", "c2")
    runs = await two_runs(world)
    runs[0].crash(RuntimeError("a bug"))
    runs[1].give("fine")
    await finish(world, chat)
    assert "failed" in chat.results["c1"]
    assert chat.results["c2"] == "fine"
    assert "tool.crashed" in world.names_told()
    assert "runner.crashed" not in world.names_told()


async def test_a_tool_that_is_silent_for_too_long_is_stopped_and_progress_is_no_silence(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a, Effect.ONCE, idle_seconds=10.0)
    for _ in range(5):
        await trio.sleep(8)
        run.progressed(Progressed(1))
    assert not run.ended.is_set()
    await trio.sleep(10.1)
    assert run.cancelled
    await finish(world, chat)
    assert "longer than 10 s without a sign of progress" in chat.results["c1"]
    assert "may have taken effect" in chat.results["c1"]


async def test_no_progress_keeps_a_tool_for_ever(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a, idle_seconds=10.0, total_seconds=25.0)
    for _ in range(3):
        await trio.sleep(8)
        run.progressed(Progressed(1))
    await trio.sleep(1.5)
    assert run.cancelled
    await finish(world, chat)
    assert "longer than 25 s" in chat.results["c1"]


async def test_a_tool_that_returns_too_much_is_an_error_result(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a, result_bytes_max=10)
    run.give("x" * 11)
    await finish(world, chat)
    assert "more than 10 bytes" in chat.results["c1"]


async def test_a_flood_of_progress_is_few_frames(world: World) -> None:
    """P10: a tool that reports all the time costs its readers four frames a second, and fewer later."""
    a = await world.replica()
    chat, run = await running(world, a, total_seconds=1000.0)
    before = len(world.frames(chat))
    for _ in range(10_000):
        run.progressed(Progressed(1, message="x" * 5000))
        await trio.sleep(0.01)
    assert len(world.frames(chat)) - before < 450
    run.give()
    await finish(world, chat)


async def test_progress_that_is_no_number_is_not_shown(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    run.progressed(Progressed(float("nan")))
    run.progressed(Progressed(float("inf")))
    await trio.sleep(1)
    run.give()
    reader = await a.read(chat)
    call = await world.model.next_call()
    run.progressed(Progressed(1.0))
    await trio.sleep(1)
    call.answer("There.")
    await reader.until_status("waiting")
    assert not any("(c1 " in line for line in reader.story)


# --- long results -----------------------------------------------------------------------------


async def test_of_a_long_result_the_model_gets_a_part_and_reads_the_rest(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    text = "".join(f"{number} " for number in range(20_000))
    run.give(text)
    call = await world.model.next_call()
    shown = chat.results["c1"]
    assert len(shown.encode()) <= SHOWN_BYTES_MAX
    offset = int(shown.split("offset ")[1].split(".")[0])
    call.ask_for_tool("c2", "read_result", f'{{"call_id": "c1", "offset": {offset}, "limit": 100}}')
    call.ask_for_tool("c3", "read_result", '{"call_id": "no"}')
    call.finish("tool_calls")
    await finish(world, chat)
    head = shown.split("\n\n")[0]
    assert chat.results["c2"].endswith(text[len(head) : len(head) + 100])
    assert "Nothing is kept" in chat.results["c3"]


def heedless(world: World, run: Run) -> None:
    """The tool sees that it is cancelled, and ends its work nevertheless, with a long result."""
    until_given = run.until_given

    async def ends_all_the_same(*_: object) -> ToolResult:
        with trio.CancelScope(shield=True):
            return await until_given()
        raise AssertionError("nothing cancels it")

    world.tools.run = ends_all_the_same  # type: ignore[assignment,method-assign]


async def test_a_long_result_that_a_stop_came_before_can_be_read_on(world: World) -> None:
    """The message says so."""
    a = await world.replica()
    chat, run = await running(world, a)
    run.give("first")
    call = await world.model.next_call()
    heedless(world, late := Run(run.call, run.progressed))
    call.call_tools("c2")
    await chat.until(lambda chat: "c2" in chat.calls)
    await world.settle()
    await a.interrupt(chat)
    await world.settle()
    late.give("x" * 2 * SHOWN_BYTES_MAX)
    await chat.until_status("waiting")
    assert READ_RESULT in chat.results["c2"]
    assert len(chat.row.calls.results["c2"]) == 2 * SHOWN_BYTES_MAX


async def test_a_long_result_that_comes_at_the_end_of_a_drain_can_be_read_on(world: World) -> None:
    a, _ = await world.cluster(2, drain_seconds=5.0)
    chat, run = await running(world, a)
    run.give("first")
    call = await world.model.next_call()
    heedless(world, late := Run(run.call, run.progressed))
    call.call_tools("c2")
    await chat.until(lambda chat: "c2" in chat.calls)
    await world.settle()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.drain)
        await trio.sleep(5.5)
        late.give("x" * 2 * SHOWN_BYTES_MAX)
    await chat.until(lambda chat: "c2" in chat.results)
    assert READ_RESULT in chat.results["c2"]
    assert len(chat.row.calls.results["c2"]) == 2 * SHOWN_BYTES_MAX


@pytest.mark.parametrize("piece", [TextPart("1" * (2 << 20)), JsonPart("1" * (2 << 20))], ids=["text", "json"])
async def test_p10_a_large_result_of_whatever_kind_is_taken_beside_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, piece: ResultContent
) -> None:
    beside = []

    async def in_thread(take: Callable[[], Taken], **_: Any) -> Taken:  # a real one takes no time of the mock clock
        beside.append(take())
        return beside[-1]

    monkeypatch.setattr(trio.to_thread, "run_sync", in_thread)
    chat, run = await running(world, await world.replica())
    run.give_content(piece)
    await finish(world, chat)
    assert len(beside) == 1


async def test_an_edit_while_a_long_result_is_kept_is_answered_by_the_same_owner(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    keep = a.database_wire.hold("keep_result")
    run.give("x" * 2 * SHOWN_BYTES_MAX)
    await keep.reached.wait()
    epoch = chat.epoch
    await a.edit(chat, "hello", "better")
    keep.release()
    await finish(world, chat)
    assert (chat.epoch, chat.history) == (epoch, ["user: better", "assistant: There."])


# --- people -----------------------------------------------------------------------------------


async def test_a_stop_cancels_what_runs_and_keeps_what_is_there(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", Effect.ONCE),))
    runs = await two_runs(world)
    commit = a.database_wire.hold("commit")
    runs[0].give("first")
    await commit.reached.wait()
    began = trio.current_time()
    await b.interrupt(chat)
    commit.release()
    await chat.until_status("waiting")
    assert trio.current_time() - began < 0.1
    assert runs[1].cancelled
    assert chat.results["c1"] == "first", "it has run, so it is not said to have been cancelled"
    assert "cancelled" in chat.results["c2"]
    assert world.model.idle()


async def test_a_tool_that_does_not_heed_the_cancel_does_not_hold_up_the_stop(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    stubborn = trio.Event()
    run.until_given = stubborn.wait  # type: ignore[assignment]

    async def heedless(call: object, progressed: object) -> object:
        with trio.CancelScope(shield=True):
            await stubborn.wait()
        raise AssertionError("nobody waits for it")

    run.give()
    call = await world.model.next_call()
    world.tools.run = heedless  # type: ignore[assignment,method-assign]
    call.call_tools("c2")
    await chat.until(lambda chat: "c2" in chat.calls)
    await world.settle()
    began = trio.current_time()
    await a.interrupt(chat)
    await chat.until_status("waiting")
    assert trio.current_time() - began < 3
    assert "cancelled" in chat.results["c2"]
    stubborn.set()


async def test_a_call_waits_for_its_approval_without_an_owner_and_is_run_with_it(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await calling(world, a, "c1", tools=(tool("tool", Effect.ONCE, approval=Approval.ASK),))
    await chat.until_status("requires_action")
    assert chat.owner is None
    assert world.tools.idle()
    await b.approve(chat, "c1", '{"at": "sea"}')
    run = await world.tools.next_run()
    assert run.call.arguments == {"at": "sea"}
    run.give("42")
    await finish(world, chat)
    assert chat.results["c1"] == ('[the user changed the arguments of this call; it was run with {"at": "sea"}]\n42'), (
        "the model is told of arguments that are not its own"
    )


async def test_what_a_person_allowed_once_and_for_all_is_not_asked_again(world: World) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", tools=(tool("tool", approval=Approval.ASK),))
    await chat.until_status("requires_action")
    await a.apply(chat, ApproveCommand("c1", remember=Remember.CHAT))
    (await world.tools.next_run()).give()
    call = await world.model.next_call()
    call.call_tools("c2")
    (await world.tools.next_run()).give()
    await finish(world, chat)
    assert set(chat.results) == {"c1", "c2"}


@pytest.mark.parametrize("effect", [Effect.ONCE, Effect.IDEMPOTENT])
async def test_what_a_person_takes_back_holds_for_the_calls_that_have_not_begun(world: World, effect: Effect) -> None:
    a = await world.replica(tools_concurrent=1)
    chat = await calling(world, a, "c1", tools=(tool("tool", effect, approval=Approval.ASK),))
    await chat.until_status("requires_action")
    await a.apply(chat, ApproveCommand("c1", remember=Remember.CHAT))
    (await world.tools.next_run()).give()
    (await world.model.next_call()).call_tools("c2", "c3", "c4")
    run = await world.tools.next_run()
    owner_id = chat.row.owner_id
    (permission,) = await a.store.list_permissions(owner_id)
    assert await a.store.delete_permission(owner_id, permission.id)
    await trio.sleep(LEAVE_SECONDS)
    run.give()
    await chat.until_status("requires_action")
    assert set(chat.results) == {"c1", "c2"}
    for call_id in ("c3", "c4"):
        await a.approve(chat, call_id)
    for _ in range(2):
        (await world.tools.next_run()).give()
    await finish(world, chat)
    assert set(chat.results) == {"c1", "c2", "c3", "c4"}


async def test_calls_that_need_nobody_run_while_others_wait_for_somebody(world: World) -> None:
    a = await world.replica()
    world.tools.offered = [tool("look"), tool("buy", Effect.ONCE, approval=Approval.ASK)]
    chat = await a.create(client_tools=["mine"])
    call = await world.model.next_call()
    for call_id, name in (("c1", "look"), ("c2", "buy"), ("c3", "mine")):
        call.ask_for_tool(call_id, name)
    call.finish("tool_calls")
    run = await world.tools.next_run()
    assert chat.status == "running"
    run.give("seen")
    await chat.until_status("requires_action")
    await a.submit(chat, "c3", "from the client")
    assert chat.status == "requires_action"
    await a.approve(chat, "c2")
    (await world.tools.next_run()).give("bought")
    await finish(world, chat)
    assert chat.results == {"c1": "seen", "c2": "bought", "c3": "from the client"}


async def test_a_steering_message_goes_in_behind_the_results_and_the_turn_goes_on(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    reader = await a.read(chat)
    await a.send(chat, "and mind the gap", Busy.STEER)
    run.give("42")
    call = await world.model.next_call()
    assert [str(m.role) for m in call.request.messages] == ["user", "assistant", "tool", "user"]
    call.answer("Minded.")
    await reader.until_status("waiting")
    assert len(reader.turns) == 1, "no turn ended in between"
    assert chat.queue == []


async def test_without_a_further_step_a_steering_message_is_a_queued_one(world: World) -> None:
    a = await world.replica()
    chat, call, reader = await world.answering(a)
    await a.send(chat, "and mind the gap", Busy.STEER)
    call.answer(" answer.")
    (await world.model.next_call()).answer("Minded.")
    await reader.until_status("waiting")
    assert len(reader.turns) == 2


# --- toolboxes --------------------------------------------------------------------------------


async def test_a_toolbox_is_opened_once_a_turn_and_closed_when_it_ends(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    run.give()
    await a.send(chat, "next")
    (await world.model.next_call()).answer("There.")
    await world.model.next_call()
    assert (world.tools.opened, world.tools.closed) == (2, 1)
    await a.interrupt(chat)
    await chat.until_status("waiting")
    await world.settle()
    assert world.tools.closed == 2


async def test_a_toolbox_that_cannot_be_opened_costs_its_tools_and_a_notice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = await world.replica()

    def broken(chat: object) -> object:
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.tools, "open", broken)
    chat, call, reader = await world.answering(a, "Hi")
    assert call.request.tools == ()
    call.finish()
    await reader.until_status("waiting")
    assert any("tools_unavailable" in line for line in reader.story)
    assert chat.history == ["user: hello", "assistant: Hi"]


async def test_what_the_turn_goes_on_without_is_told_once(world: World) -> None:
    a = await world.replica()
    world.tools.notices = [NoticePart("mcp_server_unavailable", "It is down.", "files")]
    chat = await calling(world, a, "c1")
    reader = await a.read(chat)
    (await world.tools.next_run()).give()
    await finish(world, chat)
    await reader.until_status("waiting")
    told = [line for line in reader.story if "mcp_server_unavailable files" in line]
    assert len(told) == 1
    assert chat.history[-1] == "assistant: There."


async def test_what_is_missing_once_there_are_new_tools_is_told_and_what_was_told_is_not_again(world: World) -> None:
    a = await world.replica()
    down = NoticePart("mcp_sign_in", "Sign in, at link 1", "zulu")
    world.tools.notices = [down]
    chat = await calling(world, a, "c1")
    reader = await a.read(chat)
    run = await world.tools.next_run()
    again = msgspec.structs.replace(down, message="Sign in, at link 2")
    world.tools.notices = [NoticePart("mcp_unavailable", "It is down.", "alpha"), again]
    run.renew()
    await finish(world, chat)
    await reader.until_status("waiting")
    assert sum("mcp_sign_in zulu" in line for line in reader.story) == 1
    assert sum("mcp_unavailable alpha" in line for line in reader.story) == 1


async def test_tools_that_the_model_has_no_place_for_are_left_out_and_their_server_is_named_once_a_turn(
    world: World,
) -> None:
    """A server of models refuses the whole request for one tool too many, in each turn."""
    a = await world.replica()
    world.tools_max = 3
    world.tools.instructions = [("crm", ""), ("mail", "")]
    tools = (tool("crm__look"), tool("crm__add"), tool("mail__send"), tool("mail__read"))
    chat = await calling(world, a, "c1", tools=tools, name="crm__look")
    reader = await a.read(chat)
    (await world.tools.next_run()).give()
    call = await world.model.next_call()
    assert [one.name for one in call.request.tools] == [READ_RESULT, "crm__look", "crm__add"]
    call.answer("There.")
    await reader.until_status("waiting")
    notices = [line for line in reader.story if "tools_left_out" in line]
    assert len(notices) == 1
    assert "tools_left_out mail" in notices[0]
    assert [fields["servers"] for name, fields in world.told if name == "tools.left_out"] == [{"mail": 2}]


async def test_p10_a_result_that_is_larger_in_bytes_than_may_be_kept_ends_no_turn(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    run.give("語" * (KEPT_BYTES_MAX // 3 + 1))
    await finish(world, chat)
    assert "Ask it for less" in chat.results["c1"]


async def test_arguments_that_a_user_changed_cost_a_tool_nothing_of_its_result(world: World) -> None:
    a = await world.replica()
    asks = tool("tool", Effect.ONCE, approval=Approval.ASK, result_bytes_max=1 << 10)
    chat = await calling(world, a, "c1", tools=(asks,))
    await chat.until_status("requires_action")
    await a.approve(chat, "c1", '{"text": "%s"}' % ("x" * 20_000))
    (await world.tools.next_run()).give("42")
    await finish(world, chat)
    result = chat.results["c1"]
    assert result.endswith("42")
    assert "20012 characters in all" in result
    assert len(result) < 5000


async def test_what_is_left_of_a_reader_that_joins_in_mid_call(world: World) -> None:
    """The calls are history by then, and how far they are is on the stream."""
    a, b = await world.cluster(2)
    chat, run = await running(world, a)
    run.progressed(Progressed(0.25))
    await world.settle()
    reader: Reader = await b.read(chat)
    await reader.until(lambda reader: any("(c1 0.25)" in line for line in reader.story))
    assert reader.history == ["user: hello", "assistant: Let me see."]
    run.give()
    await finish(world, chat)
    await reader.until_status("waiting")


async def test_p10_of_very_many_calls_the_first_are_run_and_the_others_told_so(world: World) -> None:
    a = await world.replica(tools_concurrent=100)
    chat = await calling(world, a, *(f"c{number}" for number in range(CALLS_MAX + 3)))
    for _ in range(CALLS_MAX):
        (await world.tools.next_run()).give()
    await finish(world, chat)
    assert len(world.tools.effects) == CALLS_MAX
    assert len(chat.results) == CALLS_MAX + 3
    assert "128 calls at most" in chat.results[f"c{CALLS_MAX}"]
