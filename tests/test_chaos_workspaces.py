"""The judge of commands in workspaces in a chaos run: what may be told of one, and what is a broken promise."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from chaos.workspace_verdicts import Command, Scores, Turn, judge_command, judge_death, judge_runs

from chatcluster.client.call_outputs import CallOutput
from chatcluster.tool_plan import DEATHS_MAX

PRINTED = "one\ntwo\nthree\n"
GONE = "The workspace does not answer right now."


class Court:
    def __init__(self, *, agent_died: bool = False, owners_died: int = 1) -> None:
        self.scores = Scores(lambda _: None)
        self.command = Command("c", PRINTED, agent_died, owners_died)

    def turn(self, result: str, seen: str = PRINTED, offset: int = 0) -> Turn:
        return Turn(0.0, result=result, output=CallOutput(offset, offset + len(seen), seen) if seen else None)

    def judge(self, result: str, seen: str = PRINTED, offset: int = 0) -> list[str]:
        judge_command(self.scores, self.command, self.turn(result, seen, offset))
        return self.found

    @property
    def found(self) -> list[str]:
        return [violation.partition(":")[0] for violation in self.scores.violations]


def result(output: str = PRINTED, *, success: bool = True, error: str = "") -> str:
    return json.dumps({"success": success, "output": output, "error": error})


def test_a_whole_result_and_a_stream_that_begins_late_are_in_order() -> None:
    assert Court().judge(result(), seen=PRINTED[4:], offset=4) == []


@pytest.mark.parametrize("told", [GONE, "The outcome is unknown: the worker that ran this call ended", result("one\n")])
def test_nothing_is_unknown_or_lost_where_the_agent_lives(told: str) -> None:
    assert len(Court().judge(told)) == 1


def test_a_piece_of_the_stream_that_was_not_printed_there_is_found() -> None:
    assert Court().judge(result(), seen="two\n", offset=3) == ["stream_differs"]


def test_a_call_that_ended_so_many_workers_may_be_given_up() -> None:
    told = f"This call was not run again: {DEATHS_MAX} workers in a row ended while they ran it."
    assert Court(owners_died=DEATHS_MAX).judge(told) == []
    assert Court(owners_died=DEATHS_MAX - 1).judge(told) != []


def test_where_the_agent_died_no_success_is_told_that_was_none() -> None:
    assert Court(agent_died=True).judge(GONE, seen="one\n") == []
    assert Court(agent_died=True).judge(result(), seen="one\n") == []
    assert Court(agent_died=True).judge(result("one\n"), seen="one\n") == ["success_that_was_none"]


KILLED = "the workspace ended while it ran"


@pytest.mark.parametrize(
    ("told", "seen", "found"),
    [
        (result("one\n", success=False, error=KILLED), "one\n", []),
        (result("one\ntwo\n", success=False, error=KILLED), "one\n", []),
        (result(), "one\n", []),
        ("There is no process of this ID.", "", []),
        ("There is no process of this ID.", "one\n", ["death_not_told"]),
        (result("one\n", success=False, error=KILLED), "one\ntwo\n", ["death_not_told"]),
        (result("two\n", success=False, error=KILLED), "", ["death_not_told"]),
        (result("one\n", success=False, error="exit status 1"), "", ["death_not_told"]),
        (GONE, "", ["death_not_told"]),
    ],
)
def test_of_a_command_under_which_the_agent_died_the_ledger_tells_how_far_it_came(
    told: str, seen: str, found: list[str]
) -> None:
    court = Court(agent_died=True)
    turn = court.turn(GONE, seen)
    judge_command(court.scores, court.command, turn)
    judge_death(court.scores, court.command, turn, told)
    assert court.found == found


@pytest.mark.parametrize(("times", "found"), [(0, ["run_twice_or_never"]), (1, []), (2, ["run_twice_or_never"])])
def test_a_command_runs_once(times: int, found: list[str]) -> None:
    court = Court()
    court.judge(result())
    judge_runs(court.scores, [court.command], Counter({"c": times}))
    assert court.found == found


def test_one_under_which_the_agent_died_before_it_printed_may_not_have_run_and_never_runs_twice() -> None:
    for times, found in ((0, []), (1, []), (2, ["run_twice_or_never"])):
        court = Court(agent_died=True)
        court.judge(GONE, seen="")
        judge_runs(court.scores, [court.command], Counter({"c": times}))
        assert court.found == found


def test_what_ran_in_the_name_of_a_stale_owner_is_found() -> None:
    court = Court()
    court.judge(result())
    judge_runs(court.scores, [court.command], Counter({"c": 1, "stale": 1}))
    assert court.found == ["stale_call_taken"]
