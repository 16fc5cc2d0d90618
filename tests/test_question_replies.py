"""What counts as an answer to the form of a server that asks the user, whatever that server made of the form."""

from __future__ import annotations

from typing import Any

import pytest

from chatcluster.chat.questions import Question, Reply, ReplyAction, check_replies
from chatcluster.errors import InvalidRequest


def check(schema: dict[str, Any], content: dict[str, Any]) -> None:
    question = Question("q", "?", {"type": "object", **schema})
    check_replies([question], {"q": Reply(ReplyAction.ACCEPT, content)})


def field(**schema: Any) -> dict[str, Any]:
    return {"properties": {"f": schema}}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (field(anyOf=[{"type": "string"}, {"type": "null"}]), "Ada"),
        (field(anyOf=[{"const": "a"}, {"type": "string"}]), "b"),
        (field(type="integer", enum=[1, 2]), 2),
        (field(oneOf=[{"const": 1, "title": "one"}, {"const": 2}]), 1),
        (field(type="string", oneOf=[{"const": "a", "title": "A"}]), "a"),
        (field(type="array", items={"anyOf": [{"const": "a"}, {"const": "b"}]}), ["b", "a"]),
        (field(type=["string", "null"]), None),
        (field(type=7, enum="no list"), "Ada"),
        ({"properties": {"f": "no field"}}, "Ada"),
        (field(type="string") | {"required": ["gone", ["no", "name"], {"nor": "this"}, "f"]}, "Ada"),
    ],
    ids=str,
)
def test_what_can_be_an_answer_is_one(schema: dict[str, Any], value: object) -> None:
    check(schema, {"f": value})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (field(type="integer", enum=[1, 2]), 3),
        (field(enum=["a"]), {"a": 1}),
        (field(oneOf=[{"const": "a"}, {"const": "b"}]), "c"),
        (field(type="array", items={"enum": ["a"]}), ["a", "b"]),
        (field(type="array", items={"enum": ["a"]}), [["a"]]),
        (field(type="number"), True),
    ],
    ids=str,
)
def test_what_is_none_is_refused_in_words(schema: dict[str, Any], value: object) -> None:
    with pytest.raises(InvalidRequest, match="f"):
        check(schema, {"f": value})
