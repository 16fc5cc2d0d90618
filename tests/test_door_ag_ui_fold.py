"""A turn as the events of a run: what a client that keeps messages makes of them is what the history says.

``Client`` does with events what AG-UI's client does. Turns are made up as in ``test_door_responses_fold``.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_door_responses_fold import message, steps, turn
from test_door_ui_messages import CALLS, FINISHED, waiting

from chatcluster.chat import CallState
from chatcluster.parts import (
    EndedTurn,
    Message,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
)
from chatcluster.turn_log import Attempted, Ended, Told, UpToDate, Withdrawn
from chatcluster.web.doors.ag_ui.event_fold import EventFold, Run
from chatcluster.web.doors.voices import Voice, spoken_in

ASKED = {"id": "u1", "role": "user", "content": "?"}
RUN = Run("thread", "run", "answer_1", [ASKED])
Event = dict[str, Any]


class Client:
    """Its messages, as version 1.0 of the client keeps them, and the order of events that it insists on."""

    def __init__(self, *messages: Event) -> None:
        self.messages: list[Event] = list(map(dict, messages or (ASKED,)))
        self.open: list[str] = []
        self.end: Event | None = None

    def take(self, event: Event) -> None:
        assert self.end is None, "after the end there is nothing"
        match event["type"]:
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                self.open.append(event["messageId"])
                if any(one["id"] == event["messageId"] for one in self.messages):
                    assert self.find(event["messageId"])["role"] == event["role"]
                else:
                    self.messages.append({"id": event["messageId"], "role": event["role"], "content": ""})
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                assert event["messageId"] in self.open
                assert event["delta"]
                self.find(event["messageId"])["content"] += event["delta"]
            case "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END":
                self.open.remove(event["messageId"])
            case "TOOL_CALL_START":
                self.call(event)
            case "TOOL_CALL_ARGS":
                self.calls[event["toolCallId"]]["function"]["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                kept = {key: event[key] for key in ("role", "toolCallId", "content")}
                self.messages.append({"id": event["messageId"], **kept})
            case "MESSAGES_SNAPSHOT":
                assert not self.open
                self.begin_anew([dict(one) for one in event["messages"]])
            case "RUN_FINISHED" | "RUN_ERROR":
                assert not self.open
                self.end = event

    def begin_anew(self, snapshot: list[Event]) -> None:
        """Reasoning is its own, where there is none in the snapshot."""
        told = {one["id"]: one for one in snapshot}
        keeps = not any(one["role"] == "reasoning" for one in snapshot)
        kept = [one for one in self.messages if one["id"] in told or (keeps and one["role"] == "reasoning")]
        self.messages = [told.pop(one["id"], one) for one in kept]
        self.messages.extend(told.values())

    def find(self, message_id: str) -> Event:
        return next(one for one in self.messages if one["id"] == message_id)

    @property
    def calls(self) -> dict[str, Event]:
        return {call["id"]: call for one in self.messages for call in one.get("toolCalls", ())}

    def call(self, event: Event) -> None:
        parent = event["parentMessageId"]
        if not any(one["id"] == parent for one in self.messages):
            self.messages.append({"id": parent, "role": "assistant"})
        function = {"name": event["toolCallName"], "arguments": ""}
        called = {"id": event["toolCallId"], "type": "function", "function": function}
        self.find(parent).setdefault("toolCalls", []).append(called)

    @property
    def said(self) -> list[tuple[str, str]]:
        """Words, calls and results, in their order."""
        told: list[tuple[str, str]] = []
        for one in self.messages[1:]:
            if one.get("content"):
                told.append((one["role"], one["content"]))
            told.extend(("call", call["id"]) for call in one.get("toolCalls", ()))
        return told


def folded(told: Iterable[Told], run: Run = RUN) -> tuple[list[Event], Client]:
    fold, client = EventFold(run), Client(*run.messages, *run.more)
    events = [event for one in told for event in fold.tell(one)]
    for event in events:
        client.take(event)
    return events, client


def history_of(told: Iterable[Told]) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    for one in told:
        if isinstance(one, Message):
            spoken = spoken_in(one.parts)
            said.extend(("assistant" if voice is Voice.TEXT else "reasoning", text) for voice, text in spoken)
            said.extend(("call", part.id) for part in one.parts if isinstance(part, ToolCallPart))
            said.extend(("tool", part.text) for part in one.parts if isinstance(part, ToolResultPart))
    return said


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32), st.integers(0, 2**32))
def test_what_a_client_ends_up_with_is_what_the_history_says_in_whatever_pieces_it_came(
    made_up: Any, one: int, other: int
) -> None:
    told = list(turn(made_up, shatter=random.Random(one)))
    events, client = folded(told)
    assert client.said == history_of(told)
    assert client.end is not None
    assert client.end["outcome"] == {"type": "success"}
    assert events == folded(turn(made_up, shatter=random.Random(other)))[0]
    assert events == folded(turn(made_up, shatter=None, with_words=False))[0], "from the history alone"


def test_what_came_to_nothing_is_taken_back() -> None:
    answer = message(2, Role.ASSISTANT, [TextPart("Whole.")], "stop")
    events, client = folded([Attempted(), TextPart("Half an "), Attempted(), TextPart("Whole."), answer, FINISHED])
    assert client.said == [("assistant", "Whole.")]
    (taken_back,) = [event for event in events if event["type"] == "MESSAGES_SNAPSHOT"]
    assert taken_back["messages"] == [ASKED]


def test_a_run_that_begins_anew_takes_the_place_of_what_its_client_has() -> None:
    answer = message(2, Role.ASSISTANT, [TextPart("Whole.")], "stop")
    events, _ = folded([answer, FINISHED], RUN._replace(begins_anew=True))
    assert [event["type"] for event in events[:3]] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "TEXT_MESSAGE_START"]


THOUGHT: list[Part] = [ReasoningPart("hm"), TextPart("Whole.")]


def test_reasoning_that_came_to_nothing_is_taken_back_as_well() -> None:
    answer = message(2, Role.ASSISTANT, [TextPart("Whole.")], "stop")
    first: list[Told] = [Attempted(), ReasoningPart("hm"), TextPart("Half")]
    _, client = folded([*first, Attempted(), TextPart("Whole."), answer, FINISHED])
    assert client.said == [("assistant", "Whole.")]
    answer = message(2, Role.ASSISTANT, [ReasoningPart("well"), TextPart("Whole.")], "stop")
    _, client = folded([*first, Attempted(), ReasoningPart("well"), TextPart("Whole."), answer, FINISHED])
    assert client.said == [("reasoning", "well"), ("assistant", "Whole.")]


@pytest.mark.parametrize("whole", [THOUGHT, THOUGHT[1:]], ids=["the same", "without reasoning"])
def test_who_runs_again_has_what_was_thought_once(whole: list[Part]) -> None:
    """The client adds what is told to what it has under the same ID, and keeps reasoning that no snapshot has."""
    said: list[Told] = [Attempted(), *THOUGHT, message(2, Role.ASSISTANT, THOUGHT, "stop")]
    _, before = folded(said)
    run = RUN._replace(begins_anew=True, more=before.messages[1:])
    answer = message(2, Role.ASSISTANT, whole, "stop")
    _, client = folded([answer, FINISHED], run)
    assert client.said == history_of([answer])


def test_reasoning_that_a_client_has_without_a_name_is_passed_over() -> None:
    more: list[Event] = [{"role": "reasoning"}, {"id": ["a"], "role": "reasoning"}, {"id": "b", "role": "reasoning"}]
    _, snapshot = EventFold(Run("thread", "run", "answer_1", begins_anew=True, more=more)).tell(UpToDate())
    assert [one["id"] for one in snapshot["messages"]] == ["b"]


def test_an_approval_is_an_interrupt_and_a_call_of_the_pages_tool_just_ends_the_run() -> None:
    called = message(2, Role.ASSISTANT, CALLS, "tool_calls")
    _, client = folded([called, waiting(CallState.APPROVAL, CallState.CLIENT)])
    assert client.end is not None
    (interrupt,) = client.end["outcome"]["interrupts"]
    assert (interrupt["toolCallId"], interrupt["id"]) == ("c1", "c1:" + "d" * 64)
    _, client = folded([called, waiting(CallState.CLIENT)])
    assert client.end is not None
    assert client.end["outcome"] == {"type": "success"}


def test_results_that_the_client_brought_are_not_told_again() -> None:
    brought = {"id": "t1", "role": "tool", "toolCallId": "c1", "content": "mine"}
    told = [message(3, Role.TOOL, [ToolResultPart(call_id, "x")]) for call_id in ("c1", "c2")]
    events, _ = folded(told, RUN._replace(messages=[ASKED, brought]))
    assert [event["toolCallId"] for event in events if event["type"] == "TOOL_CALL_RESULT"] == ["c2"]


def test_how_a_turn_ended_is_how_the_run_does() -> None:
    half: list[Told] = [Attempted(), TextPart("Half")]
    _, failed = folded([*half, Ended(EndedTurn(1, "error", 5, 3, "auth"))])
    assert failed.end is not None
    assert (failed.end["type"], failed.end["code"]) == ("RUN_ERROR", "auth")
    for end in (Ended(EndedTurn(1, "interrupted", 5, 3)), Withdrawn()):
        _, stopped = folded([*half, end])
        assert stopped.end is not None
        assert stopped.end["outcome"] == {"type": "cancelled"}


def test_progress_is_told_by_the_way() -> None:
    events, _ = folded([ToolProgressPart("c1", 1.0, 2.0)])
    assert events[1] == {
        "type": "CUSTOM",
        "name": "tool_progress",
        "value": {"call_id": "c1", "progress": 1.0, "total": 2.0, "message": None},
    }
