"""What a person says in a conversation in the terminal: a question, or a file to send along."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from chatcluster.texts import is_blank


def attached(line: str) -> Path | None:
    """The file that ``/file PATH`` names; None for any other line."""
    command, _, path = line.strip().partition(" ")
    return Path(path.strip()) if command == "/file" else None


def question_of(argument: str | None) -> str:
    """The one question of a conversation: ``argument``, or what is piped in. Raises ``click.UsageError``."""
    try:
        question = _piped_in() if argument is None else argument
        question.encode()  # bytes of an argument that are no text come as lone surrogates
    except UnicodeError:
        raise click.UsageError("the question is not text") from None
    if is_blank(question):
        raise click.UsageError("there is no question")
    return question


def _piped_in() -> str:
    """Standard input, which is None where it was closed before we began."""
    return sys.stdin.read() if sys.stdin is not None else ""
