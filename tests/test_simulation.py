"""The simulation itself: a seed is one run and always the same, and a cluster without bugs keeps its promises in it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
import simulation.__main__ as command
import trio
from checker import Checker, Kind
from click.testing import CliRunner
from simulation import jobs
from simulation.reader import Reader
from simulation.run import Run, World, run_seed
from simulation.scheduler import Process, Stuck, VirtualClock, current_process, run
from simulation.seeding import plan_of
from simulation.vigil import Vigil

SEEDS = 60
"""Run here; scripts/simulate runs more."""
TRIALS = Path(__file__).parent.parent / "trials"


@pytest.mark.parametrize("start", range(0, SEEDS, 10))
def test_every_promise_is_kept_from_every_seed(start: int) -> None:
    for seed in range(start, start + 10):
        run_of_seed = run_seed(seed)
        assert run_of_seed.kept, f"scripts/simulate --seed {seed}\n{run_of_seed.verdict.violations}"


def test_one_seed_is_one_run_whatever_the_hashes_and_addresses_of_objects() -> None:
    """Two processes with other hash seeds, and another run in this process: the same trace, line by line."""
    code = "from simulation.run import run_seed; print(*[run_seed(seed).trace.digest() for seed in range(5)])"
    elsewhere = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(TRIALS)},
            cwd=TRIALS.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "77")
    }
    here = " ".join(run_seed(seed).trace.digest() for seed in range(5)) + "\n"
    assert elsewhere == {here}


def test_another_seed_is_another_run() -> None:
    assert run_seed(1).trace.digest() != run_seed(2).trace.digest()


@pytest.mark.parametrize("why", [RuntimeError("a bug"), KeyError("a bug")])
def test_a_run_that_breaks_is_a_finding_of_its_seed(why: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(_: Vigil) -> None:
        await trio.sleep(1)
        raise why

    monkeypatch.setattr(Vigil, "run", break_down)
    broken = run_seed(5)
    assert not broken.kept
    (crash,) = [violation for violation in broken.verdict.violations if violation.kind is Kind.CRASH]
    assert "a bug" in crash.detail


# --- the command ----------------------------------------------------------------------------------


def simulate(*arguments: str) -> tuple[int, list[str]]:
    """The exit status, and the lines of the output."""
    result = CliRunner().invoke(command.simulate, arguments, prog_name="scripts/simulate")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, (result.stdout or result.stderr).splitlines()


def test_a_replay_tells_everything_that_happened_and_always_the_same() -> None:
    status, lines = simulate("--seed", "3")
    assert status == 0
    assert lines[0].startswith("seed 3: ")
    whats = {line.split()[1] for line in lines if line[:10].strip().replace(".", "").isdigit()}
    assert {"start", "asks", "answered", "claim", "commit", "connect", "event", "healed"} <= whats
    again = simulate("--seed", "3")[1]
    assert again[:-1] == lines[:-1]
    assert json.loads(lines[-1])["seeds_failed"] == 0


def test_a_failing_seed_names_the_promise_the_operation_and_what_led_to_it() -> None:
    status, lines = simulate("--plant", "forgotten-idempotency", "--start", "40", "--until-failure")
    assert status == 1
    verdict = next(index for index, line in enumerate(lines) if " breaks " in line)
    said = re.fullmatch(
        r"seed (\d+) breaks P1 \(messages_duplicated\) in the end, chat \w{4}: '(.+)' is .*", lines[verdict]
    )
    assert said is not None
    seed, text = said.groups()
    led_to = [line.split()[1] for line in lines[verdict + 1 :] if text in line]
    assert led_to[0] == "asks"
    assert "unanswered" in led_to[1:], "so it was sent again"
    assert set(led_to[1:]) <= {"unanswered", "answered", "gives"}, "or the user gives up"
    assert any("VIOLATION" in line and "P1 messages_duplicated" in line for line in lines[:verdict]), (
        "also in the trace"
    )
    assert json.loads(lines[-1])["failed"] == [int(seed)]


def test_several_seeds_at_a_time_find_what_one_after_the_other_find() -> None:
    at_a_time = simulate("--plant", "hint-as-data", "--seeds", "3", "--jobs", "2")
    in_turn = simulate("--plant", "hint-as-data", "--seeds", "3")
    assert at_a_time[0] == in_turn[0] == 1
    assert at_a_time[1][:-1] == in_turn[1][:-1]
    assert json.loads(at_a_time[1][-1])["violations"] == json.loads(in_turn[1][-1])["violations"]


@pytest.mark.parametrize(
    "arguments",
    [("--seed", "-1"), ("--seeds", "0"), ("--start", "many"), ("--jobs", "0"), ("--plant", "roses"), ("--weeds", "1")],
)
def test_bad_arguments_are_refused_by_name(arguments: tuple[str, str]) -> None:
    status, lines = simulate(*arguments)
    assert status == 2
    assert arguments[0] in lines[-1]


def test_ctrl_c_ends_the_run_with_the_seed_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seed: int) -> Run:
        if seed == 1:
            signal.raise_signal(signal.SIGINT)
        return run_seed(seed)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(jobs, "run_seed", interrupted)
    status, lines = simulate("--seeds", "100")
    assert status == 130
    assert json.loads(lines[-1])["seeds"] == 2
    assert signal.getsignal(signal.SIGINT) is before


# --- the scheduler --------------------------------------------------------------------------------


def test_time_jumps_and_the_order_of_what_is_ready_depends_on_the_seed_alone() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        order: list[int] = []

        async def note(number: int) -> None:
            await trio.sleep(1000)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(note, number)
        assert 1000 <= clock.now < 1001
        return order

    orders = [tuple(run(seed, main)) for seed in range(6)]
    assert [tuple(run(seed, main)) for seed in range(6)] == orders
    assert len(set(orders)) > 1


def test_a_frozen_process_takes_no_step_and_goes_on_where_it_was() -> None:
    async def main(clock: VirtualClock) -> list[float]:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await trio.sleep(1)
                ticks.append(round(clock.now))

        process = Process()
        async with trio.open_nursery() as nursery:
            process.context.run(nursery.start_soon, tick)
            await trio.sleep(2.5)
            process.freeze()
            await trio.sleep(3)
            process.thaw()
            await trio.sleep(1.2)
            nursery.cancel_scope.cancel()
        return ticks

    assert run(0, main) == [1, 2, 6, 7]


def test_what_a_frozen_process_has_sent_arrives() -> None:
    async def main(clock: VirtualClock) -> list[float]:
        arrivals: list[float] = []

        async def request() -> None:
            process.in_flight.add(trio.lowlevel.current_task())
            await trio.sleep(2)
            arrivals.append(round(clock.now))

        process = Process()
        async with trio.open_nursery() as nursery:
            process.context.run(nursery.start_soon, request)
            await trio.sleep(1)
            process.freeze()
            await trio.sleep(5)
            process.thaw()
        return arrivals

    assert run(0, main) == [2]


def test_the_clock_of_a_process_has_a_speed_of_its_own() -> None:
    async def main(clock: VirtualClock) -> tuple[float, float]:
        seen: list[tuple[float, float]] = []

        async def sleeper() -> None:
            assert current_process() is process
            await trio.sleep(10)
            seen.append((trio.current_time(), clock.now))

        process = Process(speed=2.0)
        async with trio.open_nursery() as nursery:
            process.context.run(nursery.start_soon, sleeper)
        return seen[0]

    own, world = run(0, main)
    assert own == pytest.approx(10)
    assert world == pytest.approx(5)


def test_a_world_in_which_nothing_can_happen_any_more_is_an_error() -> None:
    async def main(_: VirtualClock) -> None:
        process = Process()
        async with trio.open_nursery() as nursery:
            process.context.run(nursery.start_soon, trio.sleep, 1)
            await trio.lowlevel.checkpoint()
            process.freeze()
            await trio.sleep_forever()

    with pytest.raises(Stuck, match="nothing can happen"):
        run(0, main)


def test_a_world_that_is_busy_for_ever_at_one_time_is_an_error() -> None:
    async def main(_: VirtualClock) -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(Stuck, match="time stands still"):
        run(0, main)


def test_a_run_leaves_trio_and_randomness_as_they_were() -> None:
    import random

    import trio._core._run as trio_run

    before = random.getstate(), trio_run._r.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    run_seed(3)
    assert (random.getstate(), trio_run._r.getstate(), trio_run._ALLOW_DETERMINISTIC_SCHEDULING) == before


def test_what_a_harmed_chat_shows_is_read_on_and_not_judged() -> None:
    """Foreign bytes at the position that a part would have reach its readers, and end nobody's run."""
    world = World(plan_of(0), VirtualClock())
    victim = UUID(int=7)
    world.witness.harmed.chats.add(victim)
    subscriber = Checker().subscriber(str(victim), "reader")
    Reader("reader", victim, world, Random(0), subscriber)._observe("r01", b"id: 5.2-3\nevent: part\ndata: 99")
    assert subscriber.counts.events == 0
