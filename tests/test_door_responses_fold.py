"""The events of a response: one numbering, whatever way the turn came, and in the end what the history says.

``turns`` are made up: steps with attempts that come to nothing, reasoning, text, calls and their results. What a reader
is told of one differs: each replica has other pieces of the words, and some only the messages.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.conversations import ConversationItem
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from chatcluster.chat import CallState
from chatcluster.content import FilePart
from chatcluster.parts import (
    EndedTurn,
    Message,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
    encode,
    joined,
    text_of,
)
from chatcluster.ports.ledger import Waits
from chatcluster.turn_log import Attempted, Ended, Rested, Told, Waited, Withdrawn
from chatcluster.web.doors.openai.message_items import items_of
from chatcluster.web.doors.openai.response_bodies import begun
from chatcluster.web.doors.openai.response_fold import ResponseFold
from chatcluster.web.doors.openai.resting import Resumed

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ITEMS: TypeAdapter[Any] = TypeAdapter(ConversationItem)
FILES = ("image/png", "application/pdf")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENTS = frozenset({"ask_client"})

words = st.text(st.sampled_from("ab, \n日本.é"), min_size=1, max_size=60)
spoken = st.one_of(words.map(TextPart), words.map(ReasoningPart))
source = st.sampled_from((SourcePart("https://a.example/", "A"), SourcePart("https://b.example/x")))
said = st.lists(st.one_of(spoken, spoken, source), max_size=5)
steps = st.lists(st.tuples(st.lists(said, max_size=2), said, st.integers(0, 2)), min_size=1, max_size=4)


def message(message_id: int, role: Role, parts: Sequence[Part], reason: str | None = None) -> Message:
    return Message(message_id, role, tuple(parts), message_id, NOW, finish_reason=reason, usage=Usage(1, 2))


def turn(made_up: Any, *, shatter: random.Random | None, with_words: bool = True) -> Iterator[Told]:
    """What a reader is told. ``shatter`` draws the pieces; ``with_words``: the answer's, and not the message alone."""
    message_id = 1
    for number, (abandoned, answer, calls) in enumerate(made_up):
        for attempt in abandoned:
            yield Attempted()
            yield from pieces(attempt, shatter)
        asked = [ToolCallPart(f"call{number}-{place}", "server__tool", "{}") for place in range(calls)]
        parts = joined([*answer, *asked])
        if with_words or not answer:
            yield Attempted()
        if with_words:
            yield from pieces(answer, shatter)
            yield from asked
        elif answer or abandoned:
            yield Attempted()
        message_id += 1
        yield message(message_id, Role.ASSISTANT, parts, "tool_calls" if asked else "stop")
        for call in asked:
            message_id += 1
            yield message(message_id, Role.TOOL, [ToolResultPart(call.id, "done")])
    yield Ended(EndedTurn(1, "finished", 5, message_id + 1))


def pieces(parts: Sequence[Part], shatter: random.Random | None) -> Iterator[Part]:
    for part in parts:
        if not isinstance(part, TextPart | ReasoningPart):
            yield part
            continue
        text = part.text
        kind: Any = type(part)
        while shatter is not None and len(text) > 1 and shatter.random() < 0.8:
            place = shatter.randint(1, len(text) - 1)
            yield kind(text[:place])
            text = text[place:]
        yield kind(text)


def folded(told: Iterator[Told], resumed: Resumed | None = None) -> tuple[list[dict[str, Any]], ResponseFold]:
    fold = ResponseFold({"id": "resp_1"}, CLIENTS, resumed)
    return [event for one in told for event in fold.tell(one)], fold


@settings(max_examples=150, deadline=None)
@given(steps, st.integers(0, 2**32), st.integers(0, 2**32))
def test_the_events_are_the_same_on_every_replica_in_whatever_pieces_the_words_came(
    made_up: Any, one: int, other: int
) -> None:
    events, fold = folded(turn(made_up, shatter=random.Random(one)))
    assert events == folded(turn(made_up, shatter=random.Random(other)))[0]
    assert events == folded(turn(made_up, shatter=None))[0]
    assert events == folded(turn(made_up, shatter=random.Random(one), with_words=False))[0], "from the history alone"
    assert fold.response()["status"] == "completed"


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_they_are_numbered_from_zero_without_a_gap_and_say_what_the_history_says(made_up: Any, seed: int) -> None:
    told = list(turn(made_up, shatter=random.Random(seed)))
    events, fold = folded(iter(told))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert [event["type"] for event in events if "response" in event][2:] == ["response.completed"]
    history = [one for one in told if isinstance(one, Message) and one.role is Role.ASSISTANT]
    output = fold.response()["output"]
    assert "".join(text_in(item) for item in output) == "".join(text_of(one.parts) for one in history)
    assert events[-1]["response"]["output"] == output


def text_in(item: dict[str, Any]) -> str:
    return "".join(part["text"] for part in item.get("content", ()))


@settings(max_examples=100, deadline=None)
@given(steps, st.integers(0, 2**32))
def test_each_item_is_opened_once_with_the_next_index_and_closed_once_with_all_that_its_deltas_say(
    made_up: Any, seed: int
) -> None:
    events, _ = folded(turn(made_up, shatter=random.Random(seed)))
    opened: list[str] = []
    deltas: dict[str, str] = {}
    for event in events:
        match event["type"].removeprefix("response."):
            case "output_item.added":
                assert event["output_index"] == len(opened)
                opened.append(event["item"]["id"])
                deltas[event["item"]["id"]] = ""
            case "output_text.delta" | "reasoning_summary_text.delta":
                deltas[event["item_id"]] += event["delta"]
            case "output_item.done":
                item = event["item"]
                assert item["id"] == opened[event["output_index"]]
                said_of_it = deltas.pop(item["id"])
                if item["type"] in ("message", "reasoning"):
                    assert said_of_it == "".join(part["text"] for part in item.get("content", item.get("summary")))
    assert deltas == {}, "all are closed"


def test_sources_are_annotations_where_they_stand_in_the_text() -> None:
    found = SourcePart("https://a.example/", "A"), SourcePart("https://b.example/x")
    parts: list[Part] = [TextPart("One. "), found[0], TextPart("Two."), found[1]]
    answer = message(2, Role.ASSISTANT, parts, "stop")
    told: list[Told] = [Attempted(), *parts, answer, Ended(EndedTurn(1, "finished", 5, 3))]
    events, fold = folded(iter(told))
    (item,) = fold.response()["output"]
    cited = [{key: one[key] for key in ("end_index", "title", "url")} for one in item["content"][0]["annotations"]]
    assert cited == [
        {"end_index": 5, "title": "A", "url": "https://a.example/"},
        {"end_index": 9, "title": "https://b.example/x", "url": "https://b.example/x"},
    ]
    added = [event["annotation"] for event in events if event["type"] == "response.output_text.annotation.added"]
    assert added == item["content"][0]["annotations"]
    (kept,) = items_of(answer)
    assert [[one["url"] for one in part["annotations"]] for part in kept["content"]] == [
        ["https://a.example/"],
        ["https://b.example/x"],
    ]


def test_an_attempt_that_comes_to_nothing_is_closed_as_incomplete_and_is_not_in_the_response() -> None:
    told: list[Told] = [
        Attempted(),
        TextPart("Half an "),
        Attempted(),
        TextPart("Whole."),
        message(2, Role.ASSISTANT, [TextPart("Whole.")], "stop"),
    ]
    events, fold = folded(iter([*told, Ended(EndedTurn(1, "finished", 5, 3))]))
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [(text_in(item), item["status"]) for item in done] == [("Half an ", "incomplete"), ("Whole.", "completed")]
    assert fold.response()["output"] == done[1:]


def test_calls_of_the_clients_tools_end_the_response_and_those_of_others_are_waited_for() -> None:
    calls = [ToolCallPart("c1", "ask_client", '{"a": 1}'), ToolCallPart("c2", "files__read", "{}")]
    told: list[Told] = [message(2, Role.ASSISTANT, calls, "tool_calls")]
    _, fold = folded(iter(told))
    assert not fold.is_over, "the cluster runs the other one"
    events, fold = folded(iter([*told, message(3, Role.TOOL, [ToolResultPart("c2", "no", is_error=True)])]))
    assert fold.response()["status"] == "completed"
    client, server = fold.response()["output"]
    assert (client["type"], client["call_id"], client["name"], client["arguments"]) == (
        "function_call",
        "c1",
        "ask_client",
        '{"a": 1}',
    )
    assert (server["type"], server["server_label"], server["name"]) == ("mcp_call", "files", "read")
    assert server["error"]["content"] == [{"type": "text", "text": "no"}]
    assert events[-1]["type"] == "response.completed"


def test_a_call_names_its_server_by_what_is_before_the_first_separator_and_its_arguments_are_json() -> None:
    calls = [
        ToolCallPart("c1", "files__read__all", ""),
        ToolCallPart("c2", "ask_agent", " "),
        ToolCallPart("c3", "ask_client", ""),
    ]
    told: list[Told] = [message(2, Role.ASSISTANT, calls, "tool_calls"), Ended(EndedTurn(1, "finished", 5, 3))]
    events, fold = folded(iter(told))
    files, agent, client = fold.response()["output"]
    assert (files["server_label"], files["name"]) == ("files", "read__all")
    assert (agent["server_label"], agent["name"]) == ("chatcluster", "ask_agent")
    assert {item["arguments"] for item in (files, agent, client)} == {"{}"}
    assert [event["delta"] for event in events if event["type"].endswith("arguments.delta")] == ["{}"] * 3


CALLED = message(
    2,
    Role.ASSISTANT,
    [
        ReasoningPart("hm"),
        TextPart("Hello. "),
        ToolCallPart("c1", "files__read", "{}"),
        ToolCallPart("c2", "ask_client", "{}"),
    ],
    "tool_calls",
)


@pytest.mark.parametrize(
    "told",
    [
        [Attempted(), ReasoningPart("x"), Attempted(), CALLED, message(3, Role.TOOL, [ToolResultPart("c1", "done")])],
        [CALLED, message(3, Role.TOOL, [ToolResultPart("c1", "no", is_error=True)])],
        [Attempted(), TextPart("Half"), Ended(EndedTurn(1, "error", 5, 9, "auth"))],
        [Ended(EndedTurn(1, "interrupted", 5, 9))],
        [message(2, Role.ASSISTANT, [TextPart("x")], "length"), Ended(EndedTurn(1, "finished", 5, 9))],
        [CALLED, Waited({"c1": (CallState.APPROVAL,)}, 1)],
    ],
    ids=["restarted", "failed call", "failed", "interrupted", "length", "approval"],
)
def test_all_that_is_told_is_of_the_types_that_openais_client_has(told: list[Told]) -> None:
    """It reads without looking: what is of another type, its user stumbles over."""
    tools = [{"type": "function", "name": "ask_client", "parameters": {}}]
    known = {"id": "resp_1", "chat_id": "c", "created_at": 1, "model": "m", "conversation": {"id": "conv_1"}}
    fold = ResponseFold(begun({"text": {"verbosity": "low"}}, tools=tools, **known), CLIENTS)
    for event in [event for one in told for event in fold.tell(one)]:
        EVENTS.validate_json(encode(event))
    Response.model_validate_json(encode(fold.response()))
    asked = message(1, Role.USER, [TextPart("?"), *(FilePart(uuid4(), "a", kind, 1) for kind in FILES)])
    for item in [item for one in (*told, asked) if isinstance(one, Message) for item in items_of(one)]:
        ITEMS.validate_json(encode(item))


def test_how_a_turn_ended_is_how_the_response_did() -> None:
    whole: list[Told] = [message(2, Role.ASSISTANT, [TextPart("Hi")], "stop")]
    cut: list[Told] = [message(2, Role.ASSISTANT, [TextPart("Hi")], "length")]
    stopped: list[Told] = [message(2, Role.ASSISTANT, [TextPart("Hi")], "interrupted")]
    ends: list[tuple[list[Told], Told, str, str]] = [
        (whole, Ended(EndedTurn(1, "finished", 5, 3)), "completed", "completed"),
        (cut, Ended(EndedTurn(1, "finished", 5, 3)), "incomplete", "incomplete"),
        (stopped, Ended(EndedTurn(1, "interrupted", 5, 3)), "incomplete", "cancelled"),
        ([], Ended(EndedTurn(1, "error", 5, 3, "usage_limit")), "failed", "failed"),
        (whole, Rested(), "completed", "completed"),
        (stopped, Rested(), "incomplete", "cancelled"),
        ([], Withdrawn(), "incomplete", "cancelled"),
    ]
    for before, end, event, status in ends:
        events, fold = folded(iter([*before, end]))
        assert (events[-1]["type"], fold.response()["status"]) == (f"response.{event}", status)
        assert list(fold.tell(Attempted())) == [], "after the end there is nothing"
    failed = folded(iter([Ended(EndedTurn(1, "error", 5, 3, "usage_limit"))]))[1].response()
    assert failed["error"]["code"] == "rate_limit_exceeded"


C1, C2 = ToolCallPart("call_1", "files__read", '{"a": 1}'), ToolCallPart("call_2", "files__list", "{}")
REST: Waits = {"call_1": (CallState.APPROVAL,)}
LATER: Waits = {"call_1": (CallState.APPROVAL, CallState.QUESTION)}
AGENTS: Waits = {"call_1": (CallState.AGENTS,)}
RESUMED = Resumed(2, 2, 1, (C1,), {"call_1": "mcpr_call_1_0"}, [])


def test_a_call_that_a_person_approves_ends_the_response_also_for_those_who_come_later() -> None:
    asked: list[Told] = [
        message(2, Role.ASSISTANT, [TextPart("Well."), C1, C2], "tool_calls"),
        message(3, Role.TOOL, [ToolResultPart("call_2", "ok")]),
    ]
    later: list[Told] = [
        Waited(LATER, 1),
        message(4, Role.TOOL, [ToolResultPart("call_1", "done")]),
        message(5, Role.ASSISTANT, [TextPart("Done.")], "stop"),
        Ended(EndedTurn(1, "finished", 5, 6)),
    ]
    live, fold = folded(iter([*asked, Waited(REST, 1)]))
    assert live == folded(iter([*asked, *later]))[0]
    response = fold.response()
    assert (response["status"], fold.rest, fold.calls_that_wait) == ("completed", 0, ["call_1"])
    text, waiting, done, request = response["output"]
    assert [one["status"] for one in (text, waiting, done)] == ["completed", "incomplete", "completed"]
    assert request == {
        "id": "mcpr_call_1_0",
        "type": "mcp_approval_request",
        "server_label": "files",
        "name": "read",
        "arguments": '{"a": 1}',
    }


def test_what_follows_an_approval_begins_with_the_call_and_ends_at_the_next_thing_that_somebody_has_to_do() -> None:
    before: list[Told] = [Waited(REST, 1), message(4, Role.TOOL, [ToolResultPart("call_1", "done")])]
    end: list[Told] = [message(5, Role.ASSISTANT, [TextPart("Done.")], "stop"), Ended(EndedTurn(1, "finished", 5, 6))]
    events, fold = folded(iter([*before, *end]), resumed=RESUMED)
    call, text = fold.response()["output"]
    assert (call["output"], call["approval_request_id"], text_in(text)) == ("done", "mcpr_call_1_0", "Done.")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    _, fold = folded(iter([Waited(LATER, 2)]), resumed=RESUMED)
    response = fold.response()
    assert (response["status"], response["incomplete_details"]["reason"]) == ("incomplete", "action_required")
    assert "answers what the server of the tool asks" in response["incomplete_details"]["message"]


def test_agents_that_are_waited_for_end_nothing() -> None:
    told: list[Told] = [message(2, Role.ASSISTANT, [C1], "tool_calls"), Waited(AGENTS, 1)]
    assert not folded(iter(told))[1].is_over


def test_usage_is_that_of_all_steps() -> None:
    told: list[Told] = [
        message(2, Role.ASSISTANT, [TextPart("a")], "stop"),
        message(3, Role.ASSISTANT, [TextPart("b")], "stop"),
    ]
    usage = folded(iter(told))[1].response()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (2, 4, 6)
