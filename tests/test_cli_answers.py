"""`chatcluster chat`: what is asked of a person about calls that wait for one."""

from __future__ import annotations

from typing import Any

import pytest

from chatcluster.cli.call_answers import ask

ACTION = {
    "call_id": "call-1", "name": "mail", "kind": "approval", "arguments": '{"to": "ada"}', "digest": "d",
    "may_have_run": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("y", {"call-1": {"digest": "d"}}),
        ("No", {"call-1": None}),
        ("later", {}),
        ("", {}),
        ("a", {"call-1": {"digest": "d", "remember": "chat"}}),
        ("everywhere", {"call-1": {"digest": "d", "remember": "always"}}),
    ],
)
def test_somebody_is_asked_about_calls_that_wait_for_an_approval(said: str, answers: dict[str, Any]) -> None:
    calls = [ACTION, {**ACTION, "call_id": "call-2", "kind": "client"}]
    assert ask(calls, lambda _: said) == answers


def test_what_is_allowed_for_good_is_not_asked_about_in_the_same_breath() -> None:
    """But what may have run already."""
    again = {**ACTION, "call_id": "call-3", "may_have_run": True}
    calls = [ACTION, {**ACTION, "call_id": "call-2"}, again, {**ACTION, "call_id": "call-4", "name": "other"}]
    prompts: list[str] = []

    def prompt(text: str) -> str:
        prompts.append(text)
        return "a"

    answers = ask(calls, prompt)
    assert answers["call-2"] == {"digest": "d"}
    assert (len(answers), len(prompts)) == (4, 3)


@pytest.mark.parametrize(
    ("said", "asked", "reply"),
    [("y", 3, {"action": "accept", "content": {"name": "y", "age": "y"}}), ("no", 1, {"action": "decline"})],
)
def test_a_form_is_gone_through_only_where_it_is_to_be_answered(said: str, asked: int, reply: dict[str, Any]) -> None:
    form = {"properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
    call = {**ACTION, "kind": "question", "questions": [{"key": "q", "message": "Who?", "schema": form}]}
    prompts: list[str] = []

    def prompt(text: str) -> str:
        prompts.append(text)
        return said

    assert ask([call], prompt) == {"call-1": {"answers": {"q": reply}, "digest": "d"}}
    assert len(prompts) == asked


FORM = {
    "size": {"type": "string", "title": "Size", "enum": ["S", "M"], "default": "M"},
    "gift": {"type": "boolean"},
    "toppings": {"type": "array", "items": {"anyOf": [{"const": "salt", "title": "Salt"}, {"const": "oil"}]}},
    "count": {"type": "integer", "default": 1},
    "note": {"type": "string"},
}


@pytest.mark.parametrize(
    ("said", "content"),
    [
        (
            ["S", "yes", "salt, oil", "2", "x"],
            {"size": "S", "gift": True, "toppings": ["salt", "oil"], "count": 2, "note": "x"},
        ),
        (["", "No", '["salt"]', "", ""], {"size": "M", "gift": False, "toppings": ["salt"], "count": 1}),
        (["", "perhaps", "", "many", ""], {"size": "M", "gift": "perhaps", "count": "many"}),
    ],
)
def test_a_form_is_filled_in_as_its_fields_want_it(said: list[str], content: dict[str, Any]) -> None:
    """What is none of that is for the cluster to refuse, which says why, and is asked again."""
    prompts: list[str] = []
    lines = iter(["y", *said])

    def prompt(text: str) -> str:
        prompts.append(text)
        return next(lines)

    question = {"key": "q", "message": "What?", "schema": {"properties": FORM}}
    answers = ask([{**ACTION, "kind": "question", "questions": [question]}], prompt)
    assert answers == {"call-1": {"answers": {"q": {"action": "accept", "content": content}}, "digest": "d"}}
    assert prompts[1:4] == ["Size (S, M) [M] > ", "gift > ", "toppings (salt, oil) > "]


def test_the_end_of_input_answers_nothing() -> None:
    def prompt(_: str) -> str:
        raise EOFError

    assert ask([ACTION], prompt) == {}
