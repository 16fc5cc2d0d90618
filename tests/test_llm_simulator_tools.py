"""The simulated provider calls tools to order, and reads what it is asked as strictly as the strictest server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chatcluster.llm.simulator.answer import Answer
from chatcluster.llm.simulator.completions import Rendered, read_question
from chatcluster.llm.simulator.prose import prose
from chatcluster.llm.simulator.question import RefusedQuestion
from chatcluster.llm.simulator.script import DirectiveError, OrderedCall, Script, Words, expected_text, read_script

IMAGE_URL = "data:image/png;base64,iVBORw0KGgo="
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def ask(*messages: dict[str, Any], **request: Any) -> dict[str, Any]:
    """The message that answers these."""
    question = read_question(msgspec.json.encode({"messages": messages, **request}))
    answer = Answer(read_script(question.prompt, Script(), step=question.step), question)
    message: dict[str, Any] = Rendered(answer).whole()["choices"][0]["message"]
    return message


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def result(call: dict[str, Any], text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call["id"], "content": text}


def called(message: dict[str, Any]) -> list[tuple[str, str]]:
    calls = message.get("tool_calls", [])
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


# --- orders -----------------------------------------------------------------------------------


def test_a_prompt_orders_calls_and_the_next_step_tells_their_results() -> None:
    asked = user('Where is it warm? [[call=weather {"city": "Bern"}]] [[call=weather {"city": "Rom"}]]')
    first = ask(asked)
    assert first["content"] == ""
    assert called(first) == [("weather", '{"city": "Bern"}'), ("weather", '{"city": "Rom"}')]
    bern, rom = first["tool_calls"]
    second = ask(asked, first, result(bern, "rain"), result(rom, "sun"))
    assert second == {"role": "assistant", "content": "* `weather`: rain\n* `weather`: sun"}


def test_a_prompt_orders_several_steps_each_with_words_of_its_own() -> None:
    asked = user("[[call=a {}]] [[step=2 call=b]] [[step=2 say=And then:]] [[step=3 tokens=2 reasoning=1]]")
    first = ask(asked)
    steps = [asked, first, result(first["tool_calls"][0], "1")]
    second = ask(*steps)
    assert (second["content"], called(second)) == ("And then:", [("b", "")])
    second["tool_calls"][0]["function"]["arguments"] = "{}"
    third = ask(*steps, second, result(second["tool_calls"][0], "2"))
    assert third == {"role": "assistant", "content": "w0 w1 ", "reasoning_content": "r0 "}


def test_a_step_can_wait_for_the_agents_that_an_earlier_one_has_made() -> None:
    wait = '[[step=2 call=wait_agent {"chat_id": "$agent1"}]] [[step=2 call=wait_agent {"chat_id": "$agent2"}]]'
    asked = user(f"[[call=spawn_agent {{}}]] [[call=spawn_agent {{}}]] {wait}")
    first = ask(asked)
    ids = [f"{number}" * 8 + "-0000-4000-8000-000000000000" for number in (1, 2)]
    told = [result(call, f'{{"chat_id": "{one}"}}') for call, one in zip(first["tool_calls"], ids, strict=True)]
    second = ask(asked, first, *told)
    assert called(second) == [("wait_agent", f'{{"chat_id": "{one}"}}') for one in ids]


def test_a_message_that_was_steered_in_behind_results_begins_anew() -> None:
    asked = user("[[call=a {}]]")
    first = ask(asked)
    answered = [asked, first, result(first["tool_calls"][0], "1")]
    assert called(ask(*answered, user("[[call=b {}]]"))) == [("b", "{}")]
    images = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE_URL}}]}
    assert ask(*answered, images)["content"] == "* `a`: 1", "images of a result are no question"


def test_arguments_go_out_as_they_were_ordered() -> None:
    assert called(ask(user('[[call=f {"broken": ]]'))) == [("f", '{"broken":')]
    assert read_script("[[call=f]]", Script()).calls == (OrderedCall("f", ""),)


def test_no_tool_is_called_where_that_is_forbidden() -> None:
    answer = ask(user("[[call=f {}]] [[tokens=1]]"), tools=[WEATHER], tool_choice="none")
    assert "tool_calls" not in answer


def test_faults_and_times_count_at_each_step() -> None:
    prompt = "[[call=f {}]] [[step=2 fail=500 times=1]]"
    fails = [read_script(prompt, Script(), attempt, step).faults.fail for step in (1, 2) for attempt in (1, 2)]
    assert fails == [0, 0, 500, 0]


def test_the_request_can_be_repeated() -> None:
    said = ask(user("[[mode=request]]"), tools=[WEATHER])["content"]
    assert msgspec.json.decode(said)["tools"] == [WEATHER]


def test_a_prompt_without_orders_is_answered_in_markdown_and_one_with_orders_in_words() -> None:
    answer = expected_text("Tell me about ships")
    assert answer == prose("Tell me about ships")
    assert "You asked: `Tell me about ships`" in answer
    assert all(mark in answer for mark in ("\n\n", "\n1. ", "```python\n", "| Ship |", "**"))
    assert expected_text("[[tps=9]]").startswith("w0 w1 ")
    assert expected_text("hi", Script(words=Words(mode="words", tokens=2))) == "w0 w1 "


@pytest.mark.parametrize("prompt", ["[[step=many]]", "[[mode=shy]]", "[[calls=f]]"])
def test_a_wrong_order_is_refused(prompt: str) -> None:
    with pytest.raises(DirectiveError):
        read_script(prompt, Script())


# --- what is refused --------------------------------------------------------------------------


def call(name: str = "f", call_id: str = "1", arguments: str = "{}") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def calling(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": calls}


RESULT = {"role": "tool", "tool_call_id": "1", "content": "ok"}
SECOND = {"role": "tool", "tool_call_id": "2", "content": "ok"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}

REFUSED: dict[str, tuple[tuple[dict[str, Any], ...], dict[str, Any], str]] = {
    "a call without a result": ((user("a"), calling(call()), user("b")), {}, "must be followed by tool messages"),
    "a call without a result at the end": ((user("a"), calling(call())), {}, "must be followed by tool messages"),
    "a result without a call": ((user("a"), RESULT), {}, "must be a response to a preceeding message"),
    "a second result": ((calling(call()), RESULT, RESULT), {}, "must be a response to a preceeding message"),
    "results out of order": ((calling(call(), call(call_id="2")), SECOND, RESULT), {}, "where the result of '1'"),
    "an ID that was used before": ((calling(call(), call()), RESULT, RESULT), {}, "used before"),
    "a name that does not match": ((calling(call("not a name")), RESULT), {}, "does not match pattern"),
    "arguments that are no object": ((calling(call(arguments="[]")), RESULT), {}, "no JSON object"),
    "an image in a result": ((calling(call()), {**RESULT, "content": [IMAGE]}), {}, "a list of texts"),
    "an image of the assistant": (({"role": "assistant", "content": [IMAGE]},), {}, "only allowed for messages"),
    "an answer with nothing in it": (({"role": "assistant", "content": ""},), {}, "expected a string"),
    "an unknown role": (({"role": "robot", "content": "a"},), {}, "Invalid value: 'robot'"),
    "no tools at all": ((user("a"),), {"tools": []}, "empty array"),
    "a choice without tools": ((user("a"),), {"tool_choice": "none"}, "only allowed when 'tools'"),
    "two tools of one name": ((user("a"),), {"tools": [WEATHER, WEATHER]}, "must be unique"),
    "a tool without an object": (
        (user("a"),),
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
        "Invalid schema",
    ),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_a_provider_would_refuse_is_refused(refused: str) -> None:
    messages, request, says = REFUSED[refused]
    with pytest.raises(RefusedQuestion, match="(?s)" + says):
        ask(*messages, **request)


def test_a_tool_of_the_past_that_is_offered_no_more_is_fine() -> None:
    assert ask(user("a"), calling(call("gone")), RESULT, user("[[tokens=1]]"), tools=[WEATHER])["content"] == "w0 "
