"""The owner dies, freezes or drains while tools run: what may be repeated is, and of the rest nobody says more than he
knows (P7)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from chatcluster.chat import CallState
from chatcluster.ports import Approval, Effect
from loops.cluster_world import World
from loops.scripted_tools import tool
from loops.tool_scenes import calling, finish, running, two_runs

TAKEOVER_SECONDS = 0.1


# --- takeover ---------------------------------------------------------------------------------


async def test_the_tools_are_asked_for_while_the_history_is_read(world: World) -> None:
    """P4"""
    a, b = await world.cluster(2)
    chat, _ = await running(world, a)
    history = b.database_wire.hold("read_history")
    asked = world.tools.asked
    a.kill()
    await history.reached.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert world.tools.asked == asked + 1
    history.release()
    (await world.tools.next_run()).give("42")
    await finish(world, chat)
    assert world.tools.asked == asked + 1, "and once, as a model wants them to stay as they are"
    assert world.tools.opened == world.tools.closed + 1


@pytest.mark.parametrize("effect", [Effect.READ, Effect.IDEMPOTENT])
async def test_a_call_that_may_be_run_again_is_when_its_worker_dies_and_the_model_is_told(
    world: World, effect: Effect
) -> None:
    a, _ = await world.cluster(2)
    chat, _ = await running(world, a, effect)
    died_at = trio.current_time()
    a.kill()
    run = await world.tools.next_run()
    assert trio.current_time() - died_at < TAKEOVER_SECONDS
    assert run.call.call_id == "c1", "a server may know the repeat by it"
    assert chat.state.open_calls[0].deaths == 1
    run.give("42")
    await finish(world, chat)
    assert chat.results["c1"].startswith("[the worker that ran this call before ended without a result; it was run")
    assert chat.results["c1"].endswith("42")
    assert world.tools.effects == {"c1": 2}


async def test_the_outcome_of_one_that_may_not_is_unknown(world: World) -> None:
    a, _ = await world.cluster(2)
    chat, _ = await running(world, a, Effect.ONCE)
    a.kill()
    await finish(world, chat)
    assert "The outcome is unknown" in chat.results["c1"]
    assert world.tools.effects == {"c1": 1}


async def test_a_call_that_was_not_started_is_run_by_the_next_owner(world: World) -> None:
    """P7: of what is only pending nobody has to ask whether it ran."""
    a, _ = await world.cluster(2)
    step = a.database_wire.hold("commit")
    chat = await calling(world, a, "c1", tools=(tool("tool", Effect.ONCE),))
    await step.reached.wait()
    start = a.database_wire.hold("commit")
    step.release()
    await start.reached.wait()
    assert chat.state.open_calls[0].state is CallState.PENDING
    a.kill()
    (await world.tools.next_run()).give("42")
    await finish(world, chat)
    assert chat.results == {"c1": "42"}
    assert world.tools.effects == {"c1": 1}


async def test_results_that_were_committed_before_the_death_stand(world: World) -> None:
    a, _ = await world.cluster(2)
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", Effect.ONCE),))
    runs = await two_runs(world)
    runs[0].give("first")
    await chat.until(lambda chat: "c1" in chat.results)
    a.kill()
    await finish(world, chat)
    assert chat.results["c1"] == "first"
    assert "unknown" in chat.results["c2"]


async def test_a_result_whose_commit_went_through_though_its_worker_died_stands(world: World) -> None:
    a, _ = await world.cluster(2)
    chat, run = await running(world, a, Effect.ONCE)
    answer = a.database_wire.hold_answer("commit")
    run.give("42")
    await answer.reached.wait()
    a.kill()
    await world.settle()
    while (call := await world.model.next_call()).ended.is_set():
        pass  # the dead worker's last
    call.answer("There.")
    await chat.until_status("waiting")
    assert chat.results == {"c1": "42"}


async def test_a_person_decides_where_the_tool_wants_a_person_asked(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await calling(world, a, "c1", tools=(tool("tool", Effect.ONCE, approval=Approval.ASK),))
    await chat.until_status("requires_action")
    await b.approve(chat, "c1")
    await world.tools.next_run()
    world.owner_of(chat).kill()
    await chat.until_status("requires_action")
    assert chat.state.open_calls[0].state is CallState.APPROVAL
    assert world.tools.effects == {"c1": 1}
    (left,) = (replica for replica in (a, b) if replica.registered)
    await left.approve(chat, "c1")
    (await world.tools.next_run()).give("42")
    await finish(world, chat)
    assert chat.results["c1"].endswith("42")


async def test_a_call_that_killed_three_workers_is_not_run_a_fourth_time(world: World) -> None:
    replicas = await world.cluster(5)
    chat, _ = await running(world, replicas[0])
    for _ in range(2):
        world.owner_of(chat).kill()
        await world.tools.next_run()
    world.owner_of(chat).kill()
    await finish(world, chat)
    assert world.tools.effects == {"c1": 3}
    assert "not run again" in chat.results["c1"]


async def test_a_call_that_a_person_is_asked_about_is_not_run_a_fourth_time_either(world: World) -> None:
    replicas = await world.cluster(5)
    chat = await calling(world, replicas[0], "c1", tools=(tool("tool", Effect.ONCE, approval=Approval.ASK),))
    for _ in range(3):
        await chat.until_status("requires_action")
        await next(replica for replica in replicas if replica.registered).approve(chat, "c1")
        await world.tools.next_run()
        world.owner_of(chat).kill()
    await finish(world, chat)
    assert world.tools.effects == {"c1": 3}
    assert "not run again" in chat.results["c1"]


async def test_a_tool_that_is_gone_at_the_takeover_is_said_to_be(world: World) -> None:
    a, _ = await world.cluster(2)
    chat, _ = await running(world, a)
    world.tools.offered = []
    a.kill()
    await finish(world, chat)
    assert "There is no tool 'tool' any more" in chat.results["c1"]


async def test_a_commit_of_results_whose_answer_was_lost_is_recognised_and_what_runs_goes_on(world: World) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", Effect.ONCE),))
    runs = await two_runs(world)
    a.database_wire.lose_answer("commit")
    runs[0].give("first")
    await chat.until(lambda chat: "c1" in chat.results)
    await trio.sleep(1)
    runs[1].give("second")
    await finish(world, chat)
    assert chat.results == {"c1": "first", "c2": "second"}
    assert world.tools.effects == {"c1": 1, "c2": 1}


async def test_while_postgres_is_away_results_wait_and_nothing_is_run_again(world: World) -> None:
    a = await world.replica()
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", Effect.ONCE),))
    runs = await two_runs(world)
    a.database_wire.cut = True
    runs[0].give("first")
    await trio.sleep(2)
    runs[1].give("second")
    await trio.sleep(1)
    a.database_wire.cut = False
    await finish(world, chat)
    assert chat.results == {"c1": "first", "c2": "second"}
    assert world.tools.effects == {"c1": 1, "c2": 1}


async def test_a_worker_that_lost_its_chat_cancels_its_tools_at_once(world: World) -> None:
    a, b = await world.cluster(2)
    chat, run = await running(world, a, Effect.ONCE)
    a.freeze()
    await chat.until(lambda chat: chat.owner == b.worker_id)
    assert run.cancelled, "before the chat is given away"
    await finish(world, chat)
    assert "unknown" in chat.results["c1"]


# --- drain ------------------------------------------------------------------------------------


async def test_a_drain_waits_for_a_call_and_hands_over_at_the_step_boundary(world: World) -> None:
    a, b = await world.cluster(2)
    chat, run = await running(world, a, Effect.ONCE)
    a.loop.drain()
    await trio.sleep(5)
    run.give("42")
    call = await world.model.next_call()
    assert (chat.owner, chat.results) == (b.worker_id, {"c1": "42"})
    call.answer("There.")
    await chat.until_status("waiting")


async def test_a_draining_replica_begins_no_further_call(world: World) -> None:
    a, b = await world.cluster(2, tools_concurrent=1)
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", Effect.ONCE),))
    run = await world.tools.next_run()
    a.loop.drain()
    await world.settle()
    run.give("first")
    second = await world.tools.next_run()
    assert chat.owner == b.worker_id
    second.give("second")
    await finish(world, chat)
    assert chat.results == {"c1": "first", "c2": "second"}


@pytest.mark.parametrize(("effect", "runs"), [(Effect.READ, 2), (Effect.ONCE, 1)])
async def test_a_call_that_outlasts_the_drain_is_the_next_owners(world: World, effect: Effect, runs: int) -> None:
    """It saw the cancel. One that may be run again is, and no worker counts as dead; of another one nobody knows."""
    a, _ = await world.cluster(2, drain_seconds=5.0)
    chat, run = await running(world, a, effect)
    await a.drain()
    assert run.cancelled
    if runs == 2:
        again = await world.tools.next_run()
        assert chat.state.open_calls[0].deaths == 0
        again.give("42")
    await finish(world, chat)
    assert world.tools.effects == {"c1": runs}
    assert ("unknown" in chat.results["c1"]) == (effect is Effect.ONCE)


async def test_what_a_tool_gave_before_the_end_of_the_drain_is_handed_over(world: World) -> None:
    a, _ = await world.cluster(2, drain_seconds=5.0)
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool", Effect.ONCE),))
    runs = await two_runs(world)
    a.loop.drain()
    await trio.sleep(1)
    runs[0].give("first")
    await finish(world, chat)
    assert chat.results["c1"] == "first"
    assert "unknown" in chat.results["c2"]
