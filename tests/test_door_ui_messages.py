"""A turn as the chunks of a UI message stream: what a page makes of them is what the history says.

``Page`` does with chunks what the AI SDK does. Turns, and the pieces that a reader is told them in, are made up as for
the responses of ``test_door_responses_fold``.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_door_responses_fold import message, steps, turn

from chatcluster.chat import CallState
from chatcluster.parts import (
    EndedTurn,
    Message,
    NoticePart,
    Role,
    TextPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
)
from chatcluster.ports import Action
from chatcluster.turn_log import Attempted, Awaiting, Ended, Rested, Told, UpToDate, Withdrawn
from chatcluster.web.doors.ai_sdk.chunk_fold import ChunkFold, decoded
from chatcluster.web.doors.ai_sdk.ids import answer_id
from chatcluster.web.doors.ai_sdk.ui_messages import ui_messages
from chatcluster.web.doors.settled import Settled

CLIENTS = frozenset({"ask_client"})
QUESTION = message(1, Role.USER, [TextPart("?")])
FINISHED = Ended(EndedTurn(1, "finished", 5, 99))
Chunk = dict[str, Any]


class Page:
    """A message of the assistant in the making, and strict about it."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.active: dict[str, Any] = {}
        self.inputs: dict[str, str] = {}
        self.run: list[str] = []
        """Calls that it was told to run."""
        self.end: str | None = None
        self.id = ""

    def take(self, chunk: Chunk) -> None:
        assert self.end is None, "after the end there is nothing"
        kind = chunk["type"]
        match kind.split("-"):
            case ["start"]:
                self.id, self.parts, self.active = chunk["messageId"], [], {}
            case ["start", "step"]:
                self.parts.append({"type": "step-start"})
            case ["finish", "step"]:
                assert not self.active, "pieces are closed before their step"
            case ["text" | "reasoning" as voice, "start"]:
                assert chunk["id"] not in self.active
                self.active[chunk["id"]] = {"type": voice, "text": ""}
                self.parts.append(self.active[chunk["id"]])
            case ["text" | "reasoning", "delta"]:
                self.active[chunk["id"]]["text"] += chunk["delta"]
            case ["text" | "reasoning", "end"]:
                self.active.pop(chunk["id"])["state"] = "done"
            case ["source", "url"]:
                assert not self.active, "sources stand behind the words that they are for"
                self.parts.append(chunk)
            case ["tool", "input", "start"]:
                named = {key: chunk[key] for key in ("toolName", "toolCallId")}
                by_us = {"providerExecuted": True} if chunk.get("providerExecuted") else {}
                self.parts.append({"type": "dynamic-tool", **named, **by_us, "state": "input-streaming"})
                self.inputs[chunk["toolCallId"]] = ""
            case ["tool", "input", "delta"]:
                self.inputs[chunk["toolCallId"]] += chunk["inputTextDelta"]
                self.call(chunk["toolCallId"])["input"] = decoded(self.inputs[chunk["toolCallId"]])
            case ["tool", "input", "available"]:
                self.call(chunk["toolCallId"]).update(input=chunk["input"], state="input-available")
                if not chunk.get("providerExecuted"):
                    self.run.append(chunk["toolCallId"])
            case ["tool", "output", outcome]:
                self.answer(chunk, outcome)
            case ["tool", "approval", "request"]:
                self.call(chunk["toolCallId"])["state"] = "approval-requested"
            case ["data", *_]:
                if not chunk.get("transient"):
                    self.parts.append({"type": kind})
            case ["finish" | "abort" | "error"]:
                self.end = kind

    def answer(self, chunk: Chunk, outcome: str) -> None:
        more = {key: chunk[key] for key in ("output", "errorText") if key in chunk}
        self.call(chunk["toolCallId"]).update(more, state=f"output-{outcome}")

    def call(self, call_id: str) -> Any:
        return next(part for part in self.parts if part.get("toolCallId") == call_id)

    @property
    def answer_parts(self) -> list[Any]:
        """Without what was begun anew."""
        kept: list[Any] = []
        for part in self.parts:
            if part == {"type": "data-restarted"}:
                while kept.pop() != {"type": "step-start"}:
                    pass
            else:
                kept.append(part)
        return kept


def folded(told: Iterable[Told], settled: Settled | None = None) -> tuple[list[Chunk], ChunkFold]:
    fold = ChunkFold(answer_id(1), CLIENTS, {})
    passed = (one for each in told for one in ((each,) if settled is None else settled.passed(each)))
    return [chunk for one in passed for chunk in fold.tell(one)], fold


def page_of(chunks: Iterable[Chunk]) -> Page:
    page = Page()
    for chunk in chunks:
        page.take(chunk)
    return page


def history_of(told: Iterable[Told]) -> list[Any]:
    messages = [QUESTION, *(one for one in told if isinstance(one, Message))]
    return [part for one in ui_messages(messages, CLIENTS)[1:] for part in one["parts"]]


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32), st.integers(0, 2**32))
def test_the_chunks_are_the_same_on_every_replica_in_whatever_pieces_the_words_came(
    made_up: Any, one: int, other: int
) -> None:
    chunks = folded(turn(made_up, shatter=random.Random(one)))[0]
    assert chunks == folded(turn(made_up, shatter=random.Random(other)))[0]
    assert chunks == folded(turn(made_up, shatter=None))[0]
    assert chunks == folded(turn(made_up, shatter=random.Random(one), with_words=False))[0], "from the history alone"


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_what_a_page_ends_up_with_is_what_the_history_says(made_up: Any, seed: int) -> None:
    told = list(turn(made_up, shatter=random.Random(seed)))
    page = page_of(folded(told)[0])
    assert page.answer_parts == history_of(told)
    assert (page.id, page.end) == (answer_id(1), "finish")


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32), st.data())
def test_who_comes_in_between_is_told_nothing_that_had_come_to_nothing(made_up: Any, seed: int, data: Any) -> None:
    told = list(turn(made_up, shatter=random.Random(seed)))
    joined = data.draw(st.integers(0, len(told)))
    page = page_of(folded([*told[:joined], UpToDate(), *told[joined:]], Settled())[0])
    assert page.answer_parts == history_of(told)
    if Attempted() not in told[joined:]:
        assert page.parts == history_of(told)


def restarted(first: list[Told], second: list[Told], whole: str) -> Page:
    answer = message(2, Role.ASSISTANT, [TextPart(whole)], "stop")
    return page_of(folded([Attempted(), *first, Attempted(), *second, answer, FINISHED])[0])


def test_an_attempt_that_says_the_same_again_goes_on_and_nobody_notices() -> None:
    page = restarted(
        [TextPart("Half an "), TextPart("answ")], [TextPart("Half"), TextPart(" an answer.")], "Half an answer."
    )
    assert page.parts == [{"type": "step-start"}, {"type": "text", "text": "Half an answer.", "state": "done"}]


def test_one_that_says_something_else_is_told_in_a_step_of_its_own() -> None:
    page = restarted([TextPart("Half an ")], [TextPart("Half"), TextPart(" of it.")], "Half of it.")
    texts = [part.get("text", part["type"]) for part in page.parts]
    assert texts == ["step-start", "Half an ", "data-restarted", "step-start", "Half of it."]


CALLS = [ToolCallPart("c1", "files__read", '{"a": 1}'), ToolCallPart("c2", "ask_client", "{}")]


def action(call_id: str, kind: CallState) -> Action:
    return Action(call_id, "x", kind, "{}", "d" * 64, QUESTION.created_at)


def waiting(*kinds: CallState) -> Awaiting:
    return Awaiting(tuple(action(f"c{place}", kind) for place, kind in enumerate(kinds, 1)))


def test_the_client_is_asked_for_what_the_turn_waits_for_and_the_stream_ends() -> None:
    called = message(2, Role.ASSISTANT, CALLS, "tool_calls")
    chunks, fold = folded([called, waiting(CallState.APPROVAL, CallState.CLIENT)])
    assert chunks[-1]["type"] == "finish"
    assert chunks[-1]["finishReason"] == "tool-calls"
    (asked,) = [chunk for chunk in chunks if chunk["type"] == "tool-approval-request"]
    assert asked == {"type": "tool-approval-request", "approvalId": "c1:" + "d" * 64, "toolCallId": "c1"}
    ours = [chunk.get("providerExecuted", False) for chunk in chunks if chunk["type"] == "tool-input-available"]
    assert ours == [True, False], "the client runs its own alone"
    assert fold.is_over


BOTH = [ToolCallPart("c1", "ask_client", '{"a": 1}'), ToolCallPart("c2", "ask_client", "")]


def resumed(*told: Told) -> Page:
    fold = ChunkFold(answer_id(1), CLIENTS, {}, anew=True)
    return page_of(chunk for one in told for chunk in fold.tell(one))


def test_p7_who_comes_back_runs_no_call_again_that_was_answered() -> None:
    called = message(2, Role.ASSISTANT, BOTH, "tool_calls")
    first = message(3, Role.TOOL, [ToolResultPart("c1", "one")])
    page = resumed(called, first, Awaiting((action("c2", CallState.CLIENT),)))
    assert (page.run, page.end) == (["c2"], "finish")
    assert page.call("c1") == {
        "type": "dynamic-tool",
        "toolName": "ask_client",
        "toolCallId": "c1",
        "input": {"a": 1},
        "state": "output-available",
        "output": "one",
    }
    assert (page.call("c2")["state"], page.call("c2")["input"]) == ("input-available", {})
    later = resumed(called, first, message(4, Role.TOOL, [ToolResultPart("c2", "two")]), UpToDate())
    assert (later.run, later.call("c2")["state"]) == ([], "output-available")
    assert later.parts == history_of([called, first, message(4, Role.TOOL, [ToolResultPart("c2", "two")])])


def test_a_call_that_waits_beside_one_that_runs_is_run_by_who_comes_back() -> None:
    called = message(2, Role.ASSISTANT, CALLS, "tool_calls")
    assert resumed(called).run == []
    assert resumed(called, UpToDate()).run == ["c2"]
    assert resumed(UpToDate(), called).run == ["c2"], "what is told as it happens waits for nothing"


def test_what_waits_for_others_leaves_the_stream_open() -> None:
    called = message(2, Role.ASSISTANT, CALLS[:1], "tool_calls")
    chunks, fold = folded([called, waiting(CallState.SIGN_IN), waiting(CallState.SIGN_IN)])
    assert [chunk["type"] for chunk in chunks if chunk["type"].startswith("data-")] == ["data-sign-in"]
    assert not fold.is_over


def test_results_are_outputs_errors_and_denials_also_of_calls_that_were_told_before() -> None:
    results = [
        ToolResultPart("c1", "done"),
        ToolResultPart("c2", "broken", is_error=True),
        ToolResultPart("c3", "The user denied this call.", is_error=True),
    ]
    chunks, _ = folded([message(3, Role.TOOL, [result]) for result in results])
    kinds = [chunk["type"].removeprefix("tool-output-") for chunk in chunks[1:]]
    assert kinds == ["available", "error", "denied"]


def test_a_denial_names_the_request_also_to_who_comes_back() -> None:
    called = message(2, Role.ASSISTANT, CALLS, "tool_calls")
    denied = message(3, Role.TOOL, [ToolResultPart("c1", "The user denied this call.", is_error=True)])
    chunks, _ = folded([called, denied])
    kinds = [chunk["type"] for chunk in chunks if chunk.get("toolCallId") == "c1"]
    assert kinds[-2:] == ["tool-approval-request", "tool-output-denied"]
    asked, _ = folded([called, waiting(CallState.APPROVAL), denied])
    assert [chunk["type"] for chunk in asked].count("tool-approval-request") == 1
    assert [chunk["type"] for chunk in folded([denied])[0]].count("tool-approval-request") == 0, "it has what it said"


def test_what_happens_by_the_way_is_in_chunks_that_leave_no_part() -> None:
    chunks, _ = folded([ToolProgressPart("c1", 1.0, 2.0), NoticePart("tools_unavailable", "no tools")])
    assert [(chunk["type"], chunk.get("transient")) for chunk in chunks[1:]] == [
        ("data-tool-progress", True),
        ("data-notice", True),
    ]


@pytest.mark.parametrize(
    ("before", "end", "chunk"),
    [
        ("stop", Ended(EndedTurn(1, "finished", 5, 3)), {"type": "finish", "finishReason": "stop"}),
        ("length", Ended(EndedTurn(1, "finished", 5, 3)), {"type": "finish", "finishReason": "length"}),
        ("content_filter", Rested(), {"type": "finish", "finishReason": "content-filter"}),
        ("other", Rested(), {"type": "finish", "finishReason": "other"}),
        ("interrupted", Ended(EndedTurn(1, "interrupted", 5, 3)), {"type": "abort"}),
        ("interrupted", Rested(), {"type": "abort"}),
        (None, Withdrawn(), {"type": "abort"}),
        (None, Ended(EndedTurn(1, "error", 5, 3, "auth")), {"type": "error", "code": "auth"}),
    ],
)
def test_how_a_turn_ended_is_how_the_stream_does(before: str | None, end: Told, chunk: Chunk) -> None:
    said = [] if before is None else [message(2, Role.ASSISTANT, [TextPart("Hi")], before)]
    chunks, fold = folded([*said, end])
    assert {key: chunks[-1][key] for key in chunk} == chunk
    assert list(fold.tell(Attempted())) == []


@pytest.mark.parametrize("told", [True, False], ids=["all of it", "from the result on"])
def test_a_client_that_sends_by_itself_is_not_told_of_a_stop_behind_a_step_that_is_complete(told: bool) -> None:
    """It would send again, and be told of the stop again, without end."""
    result = message(3, Role.TOOL, [ToolResultPart("c1", "12 degrees")])
    before = [message(2, Role.ASSISTANT, CALLS, "tool_calls")] if told else []
    chunks, _ = folded([*before, result, Ended(EndedTurn(1, "interrupted", 5, 3))])
    assert [chunk["type"] for chunk in chunks][-2:] == ["start-step", "abort"]
    chunks, _ = folded([result, Attempted(), TextPart("It"), Ended(EndedTurn(1, "interrupted", 5, 3))])
    assert [chunk["type"] for chunk in chunks].count("start-step") == 1


def test_an_error_in_mid_answer_closes_what_is_open() -> None:
    chunks, _ = folded([Attempted(), TextPart("Half"), Ended(EndedTurn(1, "error", 5, 3, "auth"))])
    assert page_of(chunks).end == "error"
    assert [chunk["type"] for chunk in chunks][-4:] == ["text-end", "data-restarted", "finish-step", "error"]


def test_arguments_that_are_no_json_are_shown_as_they_are() -> None:
    def inputs(arguments: str) -> Iterator[Any]:
        called = message(2, Role.ASSISTANT, [ToolCallPart("c1", "x", arguments)], "tool_calls")
        return (chunk["input"] for chunk in folded([called])[0] if chunk["type"] == "tool-input-available")

    assert list(inputs('{"a')) == ['{"a']
    assert list(inputs("")) == [{}]
