"""`chatcluster chat`: one conversation with a cluster, from a terminal or a pipe.

A turn is: send, follow the stream until the database says that the chat rests, print what the database has
and the stream did not show. The stream resumes by itself when its replica is lost (``client/client.py``). A new
attempt at an answer begins its text anew; what it repeats is not printed again, so a takeover is seen only
where the model says something else this time (``Printer``).

Ctrl-C interrupts the chat, which then rests with what it had said; a second Ctrl-C leaves it to itself.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TextIO

import click
import msgspec
import trio

from chatcluster.client.client import ApiError, Client, Json
from chatcluster.client.events import Event
from chatcluster.errors import first_error
from chatcluster.events import HistoryResetEvent, MessageEvent, RetryEvent, StatusEvent
from chatcluster.parts import AttemptFrame, Message, PartFrame, Role, TextPart, text_of
from chatcluster.texts import is_blank

AT_REST = frozenset({"waiting", "error", "requires_action"})
NOT_NOW = 409
SILENCE_SECONDS = 2.0
"""Longer than any takeover."""


class Printer:
    """Prints an answer that is known piece by piece, and that may begin anew."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._printed = ""

    def show(self, text: str) -> None:
        """``text`` is the answer as far as it is known: print what of it is not on the screen yet."""
        if text.startswith(self._printed):
            self._write(text[len(self._printed) :])
        elif not self._printed.startswith(text):
            self._write("\n\n[the answer begins anew]\n\n" + text)
        else:
            return
        self._printed = text

    def finish(self, text: str) -> None:
        """``text`` is the whole answer."""
        self.show(text)
        if self._printed and not self._printed.endswith("\n"):
            self._write("\n")
        self._printed = ""

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class Conversation:
    """A chat, new or given by its ID, and what of it has been shown."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        chat_id: str | None = None,
        model: str | None = None,
        out: TextIO | None = None,
        note: Callable[[str], None] = lambda text: click.secho(text, err=True, dim=True),
    ) -> None:
        """Answers go to ``out`` (default: standard output), and everything else to ``note``."""
        self.chat_id = chat_id
        self._url = url
        self._token = token
        self._model = model
        self._note = note
        self._printer = Printer(out or sys.stdout)
        self._text = ""
        self._cursor: str | None = None
        self._seen_id: int | None = 0 if chat_id is None else None
        """The last message that needs no showing any more; None: find out first."""

    async def turn(self, content: str) -> bool:
        """Send a message and show the answer. False if the turn ended in an error, which has been noted.

        Raises ``ApiError`` and ``Unreachable``, and ``KeyboardInterrupt`` for a second Ctrl-C.
        """
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with Client(self._url, self._token) as client, trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, client, signals, nursery)
                nursery.start_soon(self._tell_of_silence, sent := trio.Event())
                await self._send(client, content)
                sent.set()
                chat = await self._follow(client)
                nursery.cancel_scope.cancel()
        if chat["status"] == "error":
            self._note(f"Error: {chat['last_error']['message']}")
        return bool(chat["status"] != "error")

    async def _tell_of_silence(self, sent: trio.Event) -> None:
        """A person who mistyped an address shall not look at an empty screen for half a minute."""
        with trio.move_on_after(SILENCE_SECONDS):
            await sent.wait()
            return
        self._note(f"[no answer from {self._url} yet; still trying]")

    async def _obey(self, client: Client, signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        interrupted = False
        async for _ in signals:
            if interrupted or self.chat_id is None:
                raise KeyboardInterrupt
            interrupted = True
            self._note("\n[interrupting; once more to leave]")
            nursery.start_soon(self._interrupt, client, self.chat_id)

    async def _interrupt(self, client: Client, chat_id: str) -> None:
        try:
            await client.interrupt(chat_id)
        except ApiError as error:
            if error.status != NOT_NOW:  # it has come to rest meanwhile
                raise

    async def _send(self, client: Client, content: str) -> None:
        model = {"model": self._model} if self._model else {}
        if self.chat_id is None:
            chat = await client.create(content, **model)
            self.chat_id = chat["id"]
            return
        if self._seen_id is None:
            history = await client.history(self.chat_id)
            self._seen_id = history[-1]["id"] if history else 0
        await client.send(self.chat_id, content, **model)

    async def _follow(self, client: Client) -> Json:
        """Show events until the chat rests. Returns the chat."""
        assert self.chat_id is not None
        async with aclosing(client.stream(self.chat_id, self._cursor)) as events:
            async for cursor, event in events:
                self._cursor = cursor
                self._show(event)
                if isinstance(event, StatusEvent) and event.status in AT_REST:
                    chat = await self._resting(client, self.chat_id)
                    if chat is not None:
                        return chat
        raise AssertionError("a stream does not end by itself")

    async def _resting(self, client: Client, chat_id: str) -> Json | None:
        """The chat, if the database says as well that it rests; then everything of it has been shown.

        A stream may be a moment behind and tell of a rest before our message.
        """
        chat = await client.chat(chat_id)
        if chat["status"] not in AT_REST:
            return None
        has_more = True
        while has_more:
            page = await client.messages(chat_id, after=self._seen_id or 0)
            for message in msgspec.convert(page["messages"], list[Message]):
                self._show_message(message)
            has_more = page["has_more"]
        return chat

    def _show(self, event: Event) -> None:
        match event:
            case PartFrame(part=TextPart(text=text)):
                self._text += text
                self._printer.show(self._text)
            case AttemptFrame() | HistoryResetEvent():
                self._text = ""
            case MessageEvent(message=message):
                self._show_message(message)
            case RetryEvent():
                self._text = ""
                self._note(f"[{event.error}; trying again in {event.delay_ms / 1000:g} s]")

    def _show_message(self, message: Message) -> None:
        if message.id <= (self._seen_id or 0):
            return
        self._seen_id = message.id
        if message.role is Role.ASSISTANT:
            self._printer.finish(text_of(message.parts))
            self._text = ""
            if message.finish_reason == "interrupted":
                self._note("[interrupted]")


def converse(conversation: Conversation, prompt: Callable[[], str]) -> bool:
    """One turn after the other until ``prompt`` raises ``EOFError``. False if the last one ended in an error.

    A question that is refused, or none (``click.UsageError``), is said to be so, and another may be asked.
    """
    ended_well = True
    while True:
        try:
            content = prompt()
            if is_blank(content):
                continue
            question = question_of(content)
        except EOFError:
            click.echo()  # the cursor still stands behind the prompt
            return ended_well
        except click.UsageError as error:
            click.echo(f"Error: {error.message}", err=True)
            continue
        try:
            ended_well = trio.run(conversation.turn, question)
        except* ApiError as refusals:
            ended_well = False
            click.echo(f"Error: {first_error(refusals)}", err=True)


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
