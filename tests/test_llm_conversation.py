"""What is sent of a history: whatever it has been through, the strictest server takes it (P7: each call has one
result), and nothing is sent twice or under another's name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_histories import history

from chatcluster.llm.conversation import (
    EMPTY_RESULT,
    OUTCOME_UNKNOWN,
    DocumentPart,
    SentPart,
    conversation,
    result_texts,
)
from chatcluster.llm.failures import Provider
from chatcluster.llm.openai_request import request_body
from chatcluster.llm.simulator.completions import read_question
from chatcluster.llm.wire import Route
from chatcluster.parts import (
    ImagePart,
    JsonPart,
    OpaquePart,
    Part,
    ReasoningPart,
    ResourcePart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from chatcluster.ports import ModelRequest, ToolSpec

ANY_ID = re.compile(r"[\x21-\x7e]{1,40}")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def calls_of(*messages: tuple[Role, tuple[Part, ...]]) -> list[tuple[str, str, str]]:
    """ID, name and arguments of each call that is sent."""
    said = [utterance for utterance in conversation(history(*messages), ANY_ID) if utterance]
    return [(call.id, call.name, call.arguments) for utterance in said for call in utterance.calls]


def test_an_id_is_never_sent_twice() -> None:
    """Some servers number their calls anew with each answer."""
    step = (Role.ASSISTANT, (ToolCallPart("call_a", "f", "{}", "0"), ToolCallPart("call_b", "f", "{}", "0")))
    again = (Role.ASSISTANT, (ToolCallPart("call_c", "f", "{}", "0"), ToolCallPart("call_a", "f", "{}", "0")))
    first, second, third, fourth = (call[0] for call in calls_of(step, again))
    assert (first, second, third) == ("0", "call_b", "call_c")
    assert fourth == "call_a"


@pytest.mark.parametrize("call_id", ["", "x" * 41, "with space", "ümlaut", "\n"])
def test_an_id_that_no_server_takes_is_replaced_by_the_same_one_each_time(call_id: str) -> None:
    step = (Role.ASSISTANT, (ToolCallPart(call_id, "f", "{}"),))
    ((sent, _, _),) = calls_of(step)
    assert re.fullmatch("call_[0-9a-f]{32}", sent)
    assert calls_of(step)[0][0] == sent


@pytest.mark.parametrize(
    ("name", "sent"), [("functions.get weather", "functions_get_weather"), ("", "unnamed"), ("x" * 99, "x" * 64)]
)
def test_a_name_that_a_model_made_up_is_made_fit_to_be_sent(name: str, sent: str) -> None:
    assert calls_of((Role.ASSISTANT, (ToolCallPart("1", name, "{}"),)))[0][1] == sent


@pytest.mark.parametrize("arguments", ["", "not json", "[1]", "null", '{"a":', "[" * 100_000])
def test_arguments_that_are_no_object_go_out_as_none(arguments: str) -> None:
    assert calls_of((Role.ASSISTANT, (ToolCallPart("1", "f", arguments),)))[0][2] == "{}"


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (None, OUTCOME_UNKNOWN),
        (ToolResultPart("1", ""), EMPTY_RESULT),
        (ToolResultPart("1", ()), EMPTY_RESULT),
        (ToolResultPart("1", (TextPart("a"), JsonPart('{"b":1}'))), 'a\n{"b":1}'),
        (ToolResultPart("1", (ResourcePart("file:///x", "x", text="words"),)), "[x: file:///x]\nwords"),
        (ToolResultPart("1", (ResourcePart("file:///x"),)), "[file:///x]"),
        (ToolResultPart("1", (ImagePart("image/png", ""), TextPart("a"), ImagePart("image/png", ""))), "<1>\na\n<2>"),
    ],
)
def test_a_result_says_all_that_is_in_it(result: ToolResultPart | None, says: str) -> None:
    answered = (Role.TOOL, (result,)) if result else (Role.USER, (TextPart("go on"),))
    step, *_ = conversation(history((Role.ASSISTANT, (ToolCallPart("1", "f", "{}"),)), answered), ANY_ID)
    assert step is not None
    assert "".join(result_texts(step.calls[0], "<%d>")) == says


PNG = "iVBORw0KGgo="
"""What a picture begins with."""
IDS = st.sampled_from(["a", "b", "c", "d", "", "with space", "x" * 60])
TEXTS = st.sampled_from(["", "word", "two\n\nparagraphs", "\x00\ufffd"])
CONTENTS = st.lists(
    st.one_of(
        st.builds(TextPart, TEXTS),
        st.builds(ImagePart, st.just("image/png"), st.just(PNG)),
        st.builds(JsonPart, st.just("{}")),
        st.builds(ResourcePart, st.just("file:///x"), text=st.none() | TEXTS),
    ),
    max_size=3,
).map(tuple)
PARTS: st.SearchStrategy[SentPart] = st.one_of(
    st.builds(TextPart, TEXTS),
    st.builds(ReasoningPart, TEXTS),
    st.builds(ImagePart, st.just("image/png"), st.just(PNG)),
    st.builds(
        ToolCallPart,
        IDS,
        st.sampled_from(["f", "not a name", ""]),
        st.sampled_from(["{}", '{"a":1}', "broken", ""]),
        st.none() | IDS,
    ),
    st.builds(ToolResultPart, IDS, CONTENTS, st.booleans()),
    st.builds(DocumentPart, st.just("a.pdf"), st.just("application/pdf"), st.just("JVBERi0xLjcK")),
    st.builds(OpaquePart, st.just("p"), st.just("m"), st.just("extra_content"), st.sampled_from(["{}", "null", "?"])),
)
MESSAGES = st.lists(st.tuples(st.sampled_from(Role), st.lists(PARTS, max_size=4).map(tuple)), max_size=8)
TOOL = ToolSpec("f", "", {"type": "object", "properties": {}})


@given(MESSAGES, st.booleans())
def test_p7_any_history_is_sent_so_that_the_strictest_server_takes_it(
    messages: list[tuple[Role, tuple[Part, ...]]], has_tools: bool
) -> None:
    request = ModelRequest(UUID(int=1), history(*messages), "m", (TOOL,) if has_tools else ())
    body = b"".join(request_body(request, Route(server=Provider("p"), model="m")))
    question = read_question(body)
    said = [part for role, parts in messages if role is not Role.TOOL for part in parts]
    texts = [part.text for part in said if isinstance(part, TextPart)]
    assert all(text in " ".join(one.text for one in question.spoken) for text in texts)
