"""The soak: what counts as flat, what its load is, and what it prints. No cluster is started here."""

from __future__ import annotations

from typing import Any

import pytest
import soak.__main__ as command
import trio
from click.testing import CliRunner
from soak.gauges import DUE_NAMES, Sample
from soak.load import MIX, Schedule
from soak.report import table, verdict_lines
from soak.verdict import judge

LOADED = 1


FULL: Sample = {
    "replica-1 memory MB": 100.0,
    "replica-1 files": 30,
    "messages table MB": 50.0,
    "messages indexes MB": 20.0,
    "messages live rows": 100_000,
    "messages dead rows": 1_000,
    "redis keys": 1_000,
    "redis memory MB": 10.0,
    **dict.fromkeys(DUE_NAMES, 500.0),
}
PURGED: Sample = FULL | {"redis keys": 0} | dict.fromkeys(DUE_NAMES, 0.0)


def broken(last: Sample, endless_keys: int = 0) -> list[str]:
    rules = judge([FULL, FULL, last], loaded=LOADED, endless_keys=endless_keys)
    return [rule.name for rule in rules if not rule.held]


def test_what_is_as_it_was_is_flat() -> None:
    assert broken(PURGED) == []


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"replica-1 memory MB": 104.0}, []),
        ({"replica-1 memory MB": 106.0}, ["replica-1 memory MB"]),
        ({"replica-1 memory MB": 301.0}, ["replica-1 memory MB, at most", "replica-1 memory MB"]),
        ({"replica-1 files": 51}, ["replica-1 files"]),
        ({"messages table MB": 55.0}, ["messages table MB"]),
        ({"messages indexes MB": 24.0}, ["messages indexes MB"]),
        ({"messages dead rows": 29_000}, []),
        ({"messages dead rows": 31_000}, ["messages dead rows"]),
        ({"redis keys": 80}, ["redis keys"]),
        ({DUE_NAMES[0]: 6.0}, [DUE_NAMES[0]]),
    ],
)
def test_each_thing_that_grows_breaks_its_rule(changes: dict[str, float], names: list[str]) -> None:
    assert broken(PURGED | changes) == names


def test_a_key_of_redis_that_never_ends_is_found() -> None:
    assert broken(PURGED, endless_keys=1) == ["redis keys without an end"]


def test_the_table_has_all_that_is_not_nothing_and_the_last_line_is_the_verdict() -> None:
    samples = [
        FULL,
        FULL,
        PURGED | {"replica-1 files": 60, "queued_messages live rows": 0.0, "queued_messages dead rows": 0.0},
    ]
    lines = list(table(samples, LOADED))
    assert any(line.startswith("replica-1 files") and line.split()[-4:] == ["30", "30", "60", "60"] for line in lines)
    assert not any(line.startswith("queued_messages") for line in lines)
    *_, told, last = verdict_lines(judge(samples, loaded=LOADED, endless_keys=0))
    assert told.startswith("NOT FLAT: replica-1 files is 60, allowed is 50")
    assert last.startswith("flat after the purge: NO")


async def test_the_load_is_even_and_has_an_end(autojump_clock: trio.abc.Clock) -> None:
    schedule = Schedule(operations=100, chats=10, seconds=10.0)
    began, creations = trio.current_time(), 0
    while (creates := await schedule.take()) is not None:
        creations += creates
    assert creations == 10
    assert trio.current_time() - began == pytest.approx(9.9)


async def test_a_cluster_that_is_too_slow_ends_the_load_in_time(autojump_clock: trio.abc.Clock) -> None:
    schedule = Schedule(operations=100, chats=10, seconds=10.0)
    taken = 0
    while await schedule.take() is not None:
        taken += 1
        await trio.sleep(1.0)
    assert taken == 10


def test_a_user_does_all_that_can_leave_something_behind() -> None:
    assert {"keyed", "edit", "interrupt", "archive", "token", "stream"} <= set(MIX)


@pytest.mark.parametrize(("flat", "expected"), [(True, 0), (False, 1)])
def test_the_exit_status_tells_whether_it_is_flat(monkeypatch: pytest.MonkeyPatch, flat: bool, expected: int) -> None:
    async def run(plan: command.Plan, _: Any) -> dict[str, Any]:
        assert (plan.chats, plan.messages) == (500, 5_000)
        return {"flat": flat}

    monkeypatch.setattr(command, "_run", run)
    assert CliRunner().invoke(command.soak, ["--quick"]).exit_code == expected


def test_a_run_that_cannot_go_on_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(_: command.Plan, __: Any) -> dict[str, Any]:
        raise RuntimeError("the cluster does not start")

    monkeypatch.setattr(command, "_run", run)
    result = CliRunner().invoke(command.soak, [])
    assert (result.exit_code, result.output.splitlines()[-1]) == (3, "Error: the cluster does not start")
