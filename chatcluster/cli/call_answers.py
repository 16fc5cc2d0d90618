"""What a person in the terminal says to calls of tools that wait: approvals, and answers to what their servers ask.

A form is asked field by field, with what there is to choose from; what is left empty is what the form has for that, or
left out. While a turn runs, the server of a call may ask as
well: then the whole answer is one line, ``/answer`` with the form as JSON, or ``/decline``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from chatcluster.chat.questions import choices_of
from chatcluster.cli.lines import few_words
from chatcluster.texts import visible

Json = dict[str, Any]
ANSWER, DECLINE = "/answer", "/decline"
QUESTION = "question"

TRUTH = {"y": True, "yes": True, "n": False, "no": False, "true": True, "false": False}
REMEMBERED = {"a": "chat", "e": "always"}
WAITED_FOR = {
    "approval": "an approval",
    "client": "the client that made the chat",
    "sign_in": "you to sign in, see `chatcluster mcp login`",
    "question": "an answer of yours",
}


def call_line(action: Json) -> str:
    again = " (it may have run already)" if action["may_have_run"] else ""
    return f"{action['name']} {few_words(action['arguments'])}{again}"


def ask(actions: list[Json], prompt: Callable[[str], str] = input) -> dict[str, Json | None]:
    """What somebody says to the calls that wait for an approval, or for an answer. Those without an answer wait on.

    Of agents nothing is asked here: they have chats of their own, in which it is answered.
    """
    answers: dict[str, Json | None] = {}
    allowed: set[str] = set()
    try:
        for action in actions:
            if "chat_id" in action:
                continue
            if action["kind"] == "approval":
                if action["name"] in allowed and not action["may_have_run"]:
                    answers[action["call_id"]] = {"digest": action["digest"]}
                elif _approve(action, prompt, answers):
                    allowed.add(action["name"])
            elif action["kind"] == QUESTION:
                answers[action["call_id"]] = _fill_in(action, prompt)
    except (EOFError, UnicodeDecodeError):
        pass
    return answers


def _approve(action: Json, prompt: Callable[[str], str], answers: dict[str, Json | None]) -> bool:
    """Whether it is allowed to the other calls of the tool as well."""
    again = ", and may have run already" if action["may_have_run"] else ""
    click.echo(f"{action['name']} is to run with {visible(action['arguments'])}{again}", err=True)
    said = prompt("Run it? [y]es, [n]o, [a]lways in this chat, [e]verywhere, anything else: later > ").strip().lower()
    remember = REMEMBERED.get(said[:1]) if said in ("a", "always", "e", "everywhere") else None
    if remember or said in ("y", "yes"):
        answers[action["call_id"]] = {"digest": action["digest"]} | ({"remember": remember} if remember else {})
    elif said in ("n", "no"):
        answers[action["call_id"]] = None
    return remember is not None


def _fill_in(action: Json, prompt: Callable[[str], str]) -> Json:
    replies = {}
    for question in action["questions"]:
        click.echo(f"{action['name']} asks: {question_line(question)}", err=True)
        said = prompt("Answer it? [y]es, anything else: decline > ").strip().lower()
        replies[question["key"]] = _accepted(question, prompt) if said in ("y", "yes") else {"action": "decline"}
    return {"answers": replies, "digest": action["digest"]}


def _accepted(question: Json, prompt: Callable[[str], str]) -> Json:
    values = {name: _value(name, field, prompt) for name, field in _fields(question)}
    return _reply(question, {name: value for name, value in values.items() if value is not None})


def _fields(question: Json) -> list[tuple[str, Json]]:
    fields = question.get("schema", {}).get("properties")
    return (
        [(name, field) for name, field in fields.items() if isinstance(field, dict)] if isinstance(fields, dict) else []
    )


def _value(name: str, field: Json, prompt: Callable[[str], str]) -> object | None:
    """What is typed, as the form wants it; what the form has for it where nothing is, and None if it has nothing."""
    said = prompt(f"{_label(name, field)} > ").strip()
    if not said:
        return field.get("default")
    match field.get("type"):
        case "string":
            return said
        case "boolean" if said.lower() in TRUTH:
            return TRUTH[said.lower()]
        case "array" if not said.startswith("["):
            return [word.strip() for word in said.split(",")]
    try:
        return json.loads(said)  # type: ignore[no-any-return]
    except ValueError:
        return said


def _label(name: str, field: Json) -> str:
    choices = choices_of(field) or choices_of(field.get("items")) or ()
    among = f" ({', '.join(map(str, choices))})" if choices else ""
    otherwise = f" [{field['default']}]" if field.get("default") is not None else ""
    return few_words(f"{field.get('title', name)}{among}{otherwise}")


def _reply(question: Json, content: Json) -> Json:
    return {"action": "accept", "content": content} if "schema" in question else {"action": "accept"}


def question_line(question: Json) -> str:
    """A question in one line."""
    where = f" (go to {visible(question['url'])})" if "url" in question else ""
    return f"{visible(question['message'])}{where}"


def typed_answer(line: str, action: Json) -> Json:
    """What a line says to what the server of a running call asks. Raises ``click.UsageError``."""
    command, _, form = line.partition(" ")
    if command == DECLINE:
        replies = {question["key"]: {"action": "decline"} for question in action["questions"]}
    else:
        try:
            content = json.loads(form or "{}")
        except ValueError:
            raise click.UsageError(f'the form is JSON, like {ANSWER} {{"name": "Ada"}}') from None
        replies = {question["key"]: _reply(question, content) for question in action["questions"]}
    return {"answers": replies, "digest": action["digest"]}
