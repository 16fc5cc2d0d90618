"""A turn as the chunks of a chat completion: what was sent is never taken back, and never said twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

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
)
from chatcluster.turn_log import Attempted, Ended, Told, Withdrawn
from chatcluster.web.doors.openai.completion_fold import CompletionFold

HEAD = {"id": "chatcmpl-1", "created": 1, "model": "m"}
FINISHED = Ended(EndedTurn(1, "finished", 5, 9))


def message(role: Role, *parts: Part, reason: str | None = None) -> Message:
    return Message(2, role, parts, 2, datetime(2026, 1, 1, tzinfo=UTC), finish_reason=reason, usage=Usage(1, 2))


def folded(told: Sequence[Told], **options: Any) -> tuple[list[dict[str, Any]], CompletionFold]:
    fold = CompletionFold(HEAD, frozenset({"ask"}), **options)
    return [chunk for one in told for chunk in fold.tell(one)], fold


def content(chunks: list[dict[str, Any]]) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk.get("choices"))


def test_the_chunks_say_what_the_message_says_however_much_of_it_was_streamed() -> None:
    whole = message(Role.ASSISTANT, TextPart("Half and half."), reason="stop")
    streamed: list[list[Told]] = [
        [],
        [Attempted(), TextPart("Half ")],
        [Attempted(), TextPart("Half "), TextPart("and half.")],
    ]
    for before in streamed:
        chunks, fold = folded([*before, whole, FINISHED])
        assert content(chunks) == "Half and half." == fold.completion()["choices"][0]["message"]["content"]
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_attempt_that_says_again_what_was_sent_goes_on_from_there() -> None:
    whole = message(Role.ASSISTANT, TextPart("Half and half."), reason="stop")
    anew: list[Told] = [Attempted(), TextPart("Ha"), TextPart("lf and")]
    chunks, _ = folded([Attempted(), TextPart("Half a"), *anew, whole, FINISHED])
    assert content(chunks) == "Half and half."


def test_an_attempt_that_says_something_else_is_an_error_and_not_a_garbled_answer() -> None:
    chunks, fold = folded([Attempted(), TextPart("Half a"), Attempted(), TextPart("Whole"), FINISHED])
    assert chunks[-1]["error"]["code"] == "answer_restarted"
    assert fold.is_over


def test_reasoning_is_not_told_twice() -> None:
    attempt: list[Told] = [Attempted(), ReasoningPart("hm"), TextPart("a")]
    chunks, _ = folded([*attempt, *attempt, FINISHED])
    thoughts = [chunk["choices"][0]["delta"].get("reasoning_content") for chunk in chunks]
    assert [thought for thought in thoughts if thought] == ["hm"]


def test_steps_of_the_clusters_own_tools_are_one_content_and_those_of_the_client_end_it() -> None:
    first = message(Role.ASSISTANT, TextPart("Look. "), ToolCallPart("c1", "own", "{}"), reason="tool_calls")
    result = message(Role.TOOL, ToolResultPart("c1", "done"))
    second = message(Role.ASSISTANT, TextPart("There."), ToolCallPart("c2", "ask", '{"a": 1}'), reason="tool_calls")
    chunks, fold = folded([first, result, second], include_usage=True)
    assert content(chunks) == "Look. There."
    (call,) = fold.completion()["choices"][0]["message"]["tool_calls"]
    assert (call["id"], call["function"]["name"]) == ("c2", "ask")
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["usage"]["total_tokens"] == 6


def test_sources_are_annotations_at_their_places_in_all_of_the_content() -> None:
    first = message(Role.ASSISTANT, TextPart("Look. "), ToolCallPart("c1", "own", "{}"), reason="tool_calls")
    second = message(Role.ASSISTANT, TextPart("There."), SourcePart("https://a.example/", "A"), reason="stop")
    chunks, fold = folded([first, message(Role.TOOL, ToolResultPart("c1", "done")), second, FINISHED])
    (cited,) = fold.completion()["choices"][0]["message"]["annotations"]
    place = {"start_index": 12, "end_index": 12}
    assert cited == {"type": "url_citation", "url_citation": {**place, "title": "A", "url": "https://a.example/"}}
    told = [chunk["choices"][0]["delta"].get("annotations") for chunk in chunks]
    assert [one for one in told if one] == [[cited]]


def test_how_the_turn_ended() -> None:
    cut = message(Role.ASSISTANT, TextPart("a"), reason="length")
    assert folded([cut, FINISHED])[0][-1]["choices"][0]["finish_reason"] == "length"
    assert folded([Ended(EndedTurn(1, "error", 5, 9, "auth"))])[0][-1]["error"]["code"] == "auth"
    assert folded([Withdrawn()])[0][-1]["error"]["code"] == "withdrawn"


def test_a_call_without_arguments_has_those_that_a_program_can_decode() -> None:
    called = message(Role.ASSISTANT, ToolCallPart("c1", "ask", ""), reason="tool_calls")
    (call,) = folded([called])[1].completion()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "ask", "arguments": "{}"}


def test_a_limit_that_is_reached_on_the_way_is_told_as_one_that_was_reached_before() -> None:
    chunks, fold = folded([Ended(EndedTurn(1, "error", 5, 9, "usage_limit"))])
    assert (chunks[-1]["error"]["code"], chunks[-1]["error"]["type"]) == ("insufficient_quota", "rate_limit_error")
    assert fold.failure is not None
    assert (fold.failure.status, fold.failure.headers["x-should-retry"]) == (429, "false")
