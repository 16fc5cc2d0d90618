"""The judge of tool calls in a chaos run: for each promise a history that breaks it, and honest ones that do not."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from chaos.tools import ASKING, CALLABLE, ONCE, SWEARING, Tools, orders
from checker import Fault, Kind, Violation

from chatcluster.chat.calls import DENIED_TEXT, EARLIER_RUN_TEXT, NOT_APPROVED_AGAIN_TEXT
from chatcluster.llm.simulator.script import Script, read_script

CHAT = "c"


class Court:
    """A judge, what the servers noted, and what it found."""

    def __init__(self, directory: Path) -> None:
        self.found: list[Kind] = []
        self.tools = Tools(directory, self._report)
        self._log = directory / "counting.jsonl"

    def _report(self, violation: Violation) -> None:
        self.found.append(violation.kind)

    def ran(self, call_id: str, *times: float) -> None:
        lines = [json.dumps({"time": time, "call": call_id, "tool": "x"}) for time in times or (1.0,)]
        with self._log.open("a") as log:
            log.write("\n".join(lines) + "\n")

    def judge(self, name: str, text: str, *, is_error: bool = False) -> list[Kind]:
        call = {"type": "tool_call", "id": "c1", "name": name, "arguments": "{}"}
        result = {"type": "tool_result", "call_id": "c1", "content": [{"type": "text", "text": text}]}
        messages: list[dict[str, Any]] = [{"parts": [call]}, {"parts": [{**result, "is_error": is_error}]}]
        self.tools.judge(CHAT, messages)
        return self.found


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path)


def test_a_call_that_ran_once_and_says_what_its_tool_gave_is_right(court: Court) -> None:
    court.ran("c1")
    assert court.judge("counting__buy", "<buy c1>") == []
    assert court.tools.calls == {"asked": 1, "ok": 1}


@pytest.mark.parametrize("name", ONCE)
def test_p7_a_call_that_must_not_be_repeated_and_was(court: Court, name: str) -> None:
    court.ran("c1", 1.0, 2.0)
    assert court.judge(name, "it was run again <buy c1>") == [Kind.RUN_TWICE]


def test_p7_one_that_was_repeated_and_does_not_say_so(court: Court) -> None:
    court.ran("c1", 1.0, 2.0)
    assert court.judge("counting__peek", "<peek c1>") == [Kind.RESULT]


def test_one_that_was_repeated_and_says_so_is_right(court: Court) -> None:
    court.ran("c1", 1.0, 2.0)
    assert court.judge("counting__peek", "[the worker …; it was run again]\n<peek c1>") == []
    assert court.tools.calls["run_again"] == 1


def test_p7_a_result_that_no_tool_gave(court: Court) -> None:
    assert court.judge("counting__peek", "<peek c2>") == [Kind.RESULT]


def test_an_outcome_that_nobody_knows_is_said_and_counted(court: Court) -> None:
    court.ran("c1")
    assert court.judge("counting__buy", "The outcome is unknown: …", is_error=True) == []
    assert court.tools.calls["unknown"] == 1


def test_p7_an_approval_that_was_taken_and_forgotten(court: Court) -> None:
    court.tools._approved.add("c1")
    assert court.judge("counting__ask", "Nobody approved this call in time.", is_error=True) == [Kind.ANSWER]


def test_p7_a_call_that_nobody_denied_and_was(court: Court) -> None:
    assert court.judge("counting__ask", DENIED_TEXT, is_error=True) == [Kind.ANSWER]


@pytest.mark.parametrize("refusal", [DENIED_TEXT, NOT_APPROVED_AGAIN_TEXT])
def test_a_call_whose_worker_died_may_be_refused_after_it_was_approved(court: Court, refusal: str) -> None:
    """The worker died between the ledger and the server: nobody knows that the call never ran, so a person is asked."""
    court.tools._approved.add("c1")
    court.tools._denied.add("c1")
    assert court.judge("counting__ask", f"{refusal} {EARLIER_RUN_TEXT}", is_error=True) == []


def test_who_approves_twice_wants_it_run_twice(court: Court) -> None:
    court.tools._approvals["c1"] = 2
    court.ran("c1", 1.0, 2.0)
    assert court.judge("counting__ask", "it was run again <ask c1>") == []


def test_a_question_that_was_answered_and_whose_server_heard_it_is_right(court: Court) -> None:
    court.tools._words["c1"], court.tools._taken = ["one", "two"], {"c1"}
    court.ran("c1")
    assert court.judge(ASKING[0], "<sign c1> accept two") == []
    assert court.tools.calls == {"asked": 1, "ok": 1, "answered": 1}


def test_a_question_that_nobody_answered_goes_on_past_its_deadline(court: Court) -> None:
    assert court.judge(ASKING[0], "Nobody answered what this call asked …", is_error=True) == []
    assert court.judge(ASKING[1], "<swear c1> cancel") == []
    assert court.tools.calls["unanswered"] == 2


def test_p7_an_answer_to_a_question_that_was_taken_and_forgotten(court: Court) -> None:
    court.tools._taken.add("c1")
    assert court.judge(ASKING[0], "Nobody answered what this call asked …", is_error=True) == [Kind.ANSWER]


def test_p7_a_server_that_was_told_what_nobody_said_to_its_question(court: Court) -> None:
    court.tools._words["c1"] = ["one"]
    assert court.judge(ASKING[1], "<swear c1> accept two") == [Kind.ANSWER]


def test_how_long_a_call_waits_for_its_next_worker_is_counted_from_the_kill(court: Court) -> None:
    court.ran("c1", 100.0, 103.5)
    kill = Fault(kind="kill", time=3.0, until=3.0)
    spread = court.tools.summary([kill], clock_offset=100.0)["tool_run_again_seconds"]
    assert (spread["count"], spread["max"]) == (1, 0.5)


def test_what_the_model_is_ordered_to_call_is_what_the_simulated_one_reads() -> None:
    draw = random.Random(1)
    seen = set()
    for _ in range(100):
        ordered = orders(draw)
        calls = read_script(f"Question [[word=x tokens=3 tps=0 step=2]]{ordered}", Script()).calls
        assert len(calls) == ordered.count("[[call=")
        seen |= {call.name for call in calls}
    assert seen == set(CALLABLE)


def test_a_version_that_may_mix_up_calls_that_ask_has_one_at_a_time() -> None:
    draw = random.Random(1)
    assert max(orders(draw).count(SWEARING[0]) for _ in range(200)) > 1
    assert max(orders(draw, confusing=False).count(SWEARING[0]) for _ in range(200)) == 1
