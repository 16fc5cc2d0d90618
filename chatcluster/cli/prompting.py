"""A conversation with somebody who sits at the terminal: a prompt, an answer, what the turn waits for, a prompt."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial

import click
import trio

from chatcluster.cli.call_answers import ANSWER, DECLINE, ask
from chatcluster.cli.questions import attached, question_of
from chatcluster.cli.terminal_chat import COMPACT, QUEUE, STOP, Conversation
from chatcluster.client.client import ApiError
from chatcluster.errors import first_error
from chatcluster.texts import is_blank, tame

LINE_BYTES_MAX = 64 << 10
AT_WORK_ONLY = (STOP, ANSWER, DECLINE)


async def typed_line() -> str:
    """The next line from the terminal. If the wait is cancelled, no input is consumed and no thread is left."""
    await trio.lowlevel.wait_readable(sys.stdin)
    return os.read(sys.stdin.fileno(), LINE_BYTES_MAX).decode(errors="replace")


def converse(conversation: Conversation, prompt: Callable[[], str]) -> bool:
    """One turn after the other until ``prompt`` raises ``EOFError``. False if the last one ended in an error.

    A question that is refused, or none (``click.UsageError``), is said to be so, and another may be asked.
    """
    ended_well = conversation.chat_id is None or _ask_about(conversation, trio.run(conversation.look))
    while True:
        try:
            content = prompt()
            if is_blank(content):
                continue
            if (path := attached(content)) is not None:
                conversation.attach(path)
                continue
            question = _at_rest(content)
        except EOFError:
            click.echo()  # the cursor still stands behind the prompt
            return ended_well
        except click.UsageError as error:
            click.echo(f"Error: {error.message}", err=True)
            continue
        try:
            step = conversation.compact if question.strip() == COMPACT else partial(conversation.turn, question)
            ended_well = _ask_about(conversation, trio.run(step))
        except* ApiError as refusals:
            ended_well = False
            click.echo(tame(f"Error: {first_error(refusals)}"), err=True)


def _ask_about(conversation: Conversation, ended_well: bool) -> bool:
    """Whether the turn has ended well once somebody was asked about what it waits for."""
    while answers := ask(conversation.actions):
        ended_well = trio.run(conversation.answer, answers)
    return ended_well


def _at_rest(line: str) -> str:
    """The question that is typed while nothing runs."""
    command, _, rest = line.strip().partition(" ")
    if command in AT_WORK_ONLY:
        raise click.UsageError(f"{command} is for while an answer comes, and none does")
    return question_of(rest if command == QUEUE else line)
