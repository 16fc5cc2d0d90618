"""What the server of a tool asks the chat's user in the middle of a call, and what the user says to it. Pure.

A question has a form to fill in, the schema of a flat object, or a URL where the user has to go. A reply accepts it,
with what the form asks for, declines it, or cancels it. All questions that a call asks at a time are answered at a
time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET

from chatcluster.errors import InvalidRequest


class Question(msgspec.Struct, frozen=True, omit_defaults=True):
    """``key`` names it among the questions that are asked at the same time."""

    key: str
    message: str
    schema: dict[str, Any] | None = None
    url: str | None = None


class ReplyAction(StrEnum):
    ACCEPT = "accept"
    DECLINE = "decline"
    CANCEL = "cancel"


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """``content`` is what was filled in."""

    action: ReplyAction
    content: dict[str, Any] | None = None


Replies = dict[str, Reply]
"""Replies by the keys of their questions."""

_encoder = msgspec.json.Encoder(order="sorted")
_replies = msgspec.json.Decoder(Replies)


def encoded(value: Sequence[Question] | Mapping[str, Reply]) -> str:
    return _encoder.encode(value).decode()


def replies_of(text: str) -> Replies:
    return _replies.decode(text)


def cancelled(questions: Sequence[Question]) -> Replies:
    """The answer where the user gives none in time."""
    return {question.key: Reply(ReplyAction.CANCEL) for question in questions}


class Inquiry(msgspec.Struct, frozen=True):
    """What a call asks the user at a time, and what came of it.

    ``answers`` (JSON) is what the user said, once there is an answer. ``resume`` is what the server goes on from, if it
    has ended its request with the questions; without, it holds the request open.
    """

    questions: tuple[Question, ...]
    answers: str | None = None
    resume: str | None = None

    @property
    def replies(self) -> Replies | None:
        return None if self.answers is None else replies_of(self.answers)


def check_replies(questions: Sequence[Question], replies: Mapping[str, Reply]) -> None:
    """Raise ``InvalidRequest`` where these are no answers to these questions."""
    keys = {question.key for question in questions}
    if set(replies) != keys:
        raise InvalidRequest(f"answers has one answer for each question, by its key: {', '.join(sorted(keys))[:200]}")
    for question in questions:
        _check_reply(question, replies[question.key])


def _check_reply(question: Question, reply: Reply) -> None:
    if reply.action is not ReplyAction.ACCEPT or question.schema is None:
        if reply.content is not None:
            raise InvalidRequest("content is for a question with a form that is accepted", key=question.key)
        return
    fields, content = question.schema.get("properties"), reply.content or {}
    fields = fields if isinstance(fields, dict) else {}
    required = question.schema.get("required")
    for name in required if isinstance(required, list) else []:
        if isinstance(name, str) and name in fields and name not in content:
            raise InvalidRequest(f"content has no {name[:80]!r}, which the form requires", key=question.key)
    for name, value in content.items():
        if name not in fields:
            raise InvalidRequest(f"content has {name[:80]!r}, which the form does not ask for", key=question.key)
        if (problem := _problem(fields[name], value)) is not None:
            raise InvalidRequest(f"content: {name[:80]!r} {problem}", key=question.key)


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
}


def _problem(field: object, value: object) -> str | None:
    """What is wrong with a value. Of a field that says what nobody knows, whatever comes is left to the server."""
    if not isinstance(field, dict):
        return None
    kind = field.get("type")
    types = _TYPES.get(kind) if isinstance(kind, str) else None
    if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and kind != "boolean")):
        return f"has to be of type {kind}"
    if isinstance(value, list):
        if not all(isinstance(item, str) for item in value):
            return "has to be a list of strings"
        choices = choices_of(field.get("items"))
        is_one = choices is None or set(value) <= {choice for choice in choices if isinstance(choice, str)}
        return None if is_one else "has a value that is none of the choices"
    choices = choices_of(field)
    return None if choices is None or value in choices else "is none of the choices"


def choices_of(field: object) -> list[object] | None:
    """The values that there are to choose from, where there are, and nothing else is taken."""
    if not isinstance(field, dict):
        return None
    if isinstance(field.get("enum"), list):
        return list(field["enum"])
    for key in ("oneOf", "anyOf"):
        if isinstance(field.get(key), list):
            values = [choice.get("const", UNSET) if isinstance(choice, dict) else UNSET for choice in field[key]]
            return None if UNSET in values else values
    return None
