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
    [("y", {"call-1": {"digest": "d"}}), ("No", {"call-1": None}), ("later", {}), ("", {})],
)
def test_somebody_is_asked_about_calls_that_wait_for_an_approval(said: str, answers: dict[str, Any]) -> None:
    calls = [ACTION, {**ACTION, "call_id": "call-2", "kind": "client"}]
    assert ask(calls, lambda _: said) == answers


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


def test_the_end_of_input_answers_nothing() -> None:
    def prompt(_: str) -> str:
        raise EOFError

    assert ask([ACTION], prompt) == {}
