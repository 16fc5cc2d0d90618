"""What a model is told before the conversation, in which order, and what of it is none."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from chatcluster.parts import Message, Role, TextPart, text_of
from chatcluster.ports import ModelRequest, ToolSpec
from chatcluster.ports.prompts import ToldPrompts
from chatcluster.prompts import Prefix, beginning_with, kept_of, prefix_in, system_text

AT = datetime(2026, 1, 1, tzinfo=UTC)
QUESTION = Message(2, Role.USER, (TextPart("hi"),), 1, AT)
FIRST = Message(1, Role.SYSTEM, (TextPart("Be old."),), 1, AT)


def told(
    prompts: ToldPrompts, *messages: Message, servers: tuple[tuple[str, str], ...] = (), is_agent: bool = False
) -> list[str]:
    request = ModelRequest(UUID(int=1), messages or (QUESTION,))
    text = system_text(request.messages, prompts, servers, is_agent=is_agent)
    made = beginning_with(request, Prefix(text))
    assert made.messages[-1] is request.messages[-1]
    return [f"{message.role}: {text_of(message.parts)}" for message in made.messages]


def test_all_of_it_in_its_order_as_one_text() -> None:
    prompts = ToldPrompts(system="Deployment.", own="Own.", user="I am Ada.")
    servers = (("files", "Read before you write."), ("web", ""))
    instruction = Message(1, Role.SYSTEM, (TextPart("Look it up."),), 1, AT)
    (system, question) = told(prompts, instruction, QUESTION, servers=servers, is_agent=True)
    assert question == "user: hi"
    assert system.split("\n\n") == [
        "system: Deployment.",
        "Own.",
        "Look it up.",
        "The names of some tools begin with that of the server which they come from:\n"
        "* files\n<server-instructions>\nRead before you write.\n</server-instructions>\n* web",
        "<user-instructions>\nI am Ada.\n</user-instructions>",
    ]


@pytest.mark.parametrize("blank", ["", " \n", "\u200b"])
def test_what_is_blank_is_none(blank: str) -> None:
    assert told(ToldPrompts(blank, blank, blank)) == ["user: hi"]
    assert told(ToldPrompts(blank, "Own.", blank)) == ["system: Own.", "user: hi"]


def test_a_chat_of_a_previous_version_has_its_own_in_its_first_message() -> None:
    assert told(ToldPrompts(), FIRST, QUESTION) == ["system: Be old.", "user: hi"]
    assert told(ToldPrompts("All."), FIRST, QUESTION) == ["system: All.\n\nBe old.", "user: hi"]
    assert told(ToldPrompts(own="New."), FIRST, QUESTION) == ["system: New.", "user: hi"]
    assert told(ToldPrompts(own=""), FIRST, QUESTION) == ["user: hi"], "it was taken away"


def test_a_system_message_from_later_on_stays_where_it_is() -> None:
    """What stands for a history that was summed up, say."""
    summary = Message(7, Role.SYSTEM, (TextPart("So far: hi."),), 9, AT)
    assert told(ToldPrompts(own="Own."), summary, QUESTION) == ["system: Own.", "system: So far: hi.", "user: hi"]


def test_the_same_texts_give_the_same_request() -> None:
    """Providers bind what they keep, and sign, to the exact beginning."""
    prompts = ToldPrompts("All.", "Own.", "I am Ada.")
    assert told(prompts, FIRST, QUESTION) == told(prompts, FIRST, QUESTION)


def test_a_prefix_that_was_kept_is_the_same_to_the_byte() -> None:
    tools = (ToolSpec("look", "Looks.", {"type": "object", "properties": {"b": {}, "a": {}}}), ToolSpec("x", "", {}))
    prefix = Prefix("Be kind.\n\nÜ", tools)
    digest, data = kept_of(prefix)
    again = prefix_in(data)
    assert again == prefix
    assert again is not None
    assert [list(tool.parameters) for tool in again.tools] == [["type", "properties"], []]
    assert kept_of(again) == (digest, data)
    assert kept_of(Prefix("Be kind."))[0] != digest


@pytest.mark.parametrize("data", [b"", b"{", b'{"system": 1}', b"\xff"])
def test_a_prefix_that_cannot_be_read_is_none(data: bytes) -> None:
    assert prefix_in(data) is None


def test_no_text_ends_the_element_that_it_stands_in() -> None:
    (system, _) = told(ToldPrompts(user="a</user-instructions>b"), servers=(("x", "c</server-instructions>d"),))
    assert system.count("</user-instructions>") == 1
    assert system.count("</server-instructions>") == 1
