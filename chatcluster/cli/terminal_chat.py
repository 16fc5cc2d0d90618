"""`chatcluster chat`: one conversation with a cluster, from a terminal or a pipe.

A turn is: send, follow the stream until the database says that the chat rests, print what the database has
and the stream did not show. The stream resumes by itself when its replica is lost (``client/client.py``). A new
attempt at an answer begins its text anew; what it repeats is not printed again, so a takeover is seen only
where the model says something else this time (``Printer``).

Ctrl-C interrupts the chat, which then rests with what it had said; a second Ctrl-C leaves it to itself. A line that is
typed meanwhile steers the turn: it goes in behind the next results of its tools, or is answered after it. ``/queue``
before it lets it wait in any case; ``/stop`` is an interrupt, and ``/file PATH`` sends a file along with the next
message. ``/compact`` at the prompt has the chat summarised. A command that there is nothing for now is said to be
so, and no message; what the cluster refuses of what is typed meanwhile ends nothing.

Calls of tools and their results are told in a few words, and what a call prints as it comes. A call that waits for an
approval, or for an answer to what its server asks, is shown, and asked about where somebody can be asked, also when a
conversation begins with a chat that waits; else the chat is left as it is, for later. An agent's is answered in the
agent's chat. What the server of a running call asks is answered by ``/answer`` or ``/decline``.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TextIO

import click
import msgspec
import trio
from msgspec import UNSET

from chatcluster.cli.call_answers import (
    ANSWER,
    DECLINE,
    QUESTION,
    WAITED_FOR,
    call_line,
    question_line,
    typed_answer,
)
from chatcluster.cli.lines import agent_line, few_words
from chatcluster.cli.printed import OutputLines, Printer
from chatcluster.cli.questions import attached
from chatcluster.client.client import ApiError, Client
from chatcluster.client.events import Event, known_messages
from chatcluster.client.files import file_part
from chatcluster.client.tool_calls import Json
from chatcluster.events import ActionRequiredEvent, HistoryResetEvent, MessageEvent, RetryEvent, StatusEvent
from chatcluster.parts import (
    AttemptFrame,
    Message,
    PartFrame,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolOutputPart,
    ToolResultPart,
    text_of,
)
from chatcluster.texts import is_blank, tame, visible

AT_REST = frozenset({"waiting", "error", "requires_action"})
NOT_NOW = 409
SERVER_ERROR = 500
SILENCE_SECONDS = 2.0
"""Longer than any takeover."""
COMPACT, STOP, QUEUE = "/compact", "/stop", "/queue"


class Conversation:
    """A chat, new or given by its ID, and what of it has been shown."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        chat_id: str | None = None,
        model: str | None = None,
        mcp_servers: Sequence[str] = (),
        out: TextIO | None = None,
        note: Callable[[str], None] = lambda text: click.secho(text, err=True, dim=True),
        typed: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        """Answers go to ``out`` (default: standard output), and everything else to ``note``. ``typed`` waits for the
        next line that comes while an answer does."""
        self.chat_id = chat_id
        self.actions: list[Json] = []
        """The calls for which the last turn waits."""
        self._url = url
        self._token = token
        self._fields: Json = {name: said for name, said in (("model", model), ("mcp_servers", mcp_servers)) if said}
        self._note: Callable[[str], None] = lambda text: note(tame(text))
        self._typed = typed
        self._printer = Printer(out or sys.stdout)
        self._text = ""
        self._files: list[Path] = []
        """What goes along with the next message."""
        self._cursor: str | None = None
        self._called: dict[str, str] = {}
        """The tools of calls whose results were not shown yet."""
        self._outputs: dict[str, OutputLines] = {}
        self._asking: Json | None = None
        """A running call whose server asks something."""
        self._seen_id: int | None = 0 if chat_id is None else None
        """The last message that needs no showing any more; None: find out first."""

    def attach(self, path: Path) -> None:
        """Send a file along with the next message. Raises ``click.UsageError`` for one that cannot be read."""
        path = path.expanduser()
        if not (path.is_file() and os.access(path, os.R_OK)):
            raise click.UsageError(f"{path} is no file that can be read")
        self._files.append(path)
        self._note(f"[{path.name} goes along with the next message]")

    async def turn(self, content: str) -> bool:
        """Send a message and show the answer. False if the turn ended in an error, which has been noted.

        Nor has it ended well if it waits for somebody: then ``actions`` says for what. Raises ``ApiError`` and
        ``Unreachable``, and ``KeyboardInterrupt`` for a second Ctrl-C.
        """
        return await self._go_on(partial(self._send, content=content))

    async def look(self) -> bool:
        """Find out what the chat waits for already."""
        async with Client(self._url, self._token) as client, trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_of_silence, seen := trio.Event())
            chat = await client.chat(str(self.chat_id))
            seen.set()
            nursery.cancel_scope.cancel()
        self._tell_needs(chat)
        return True

    async def compact(self) -> bool:
        """Have the chat summarised, and show that; else as ``turn``."""
        if self.chat_id is None:
            self._note("[there is nothing to summarise yet]")
            return True
        return await self._go_on(self._compact)

    async def answer(self, answers: Mapping[str, Json | None]) -> bool:
        """Approve calls, or deny those with None, and show how the turn goes on; else as ``turn``."""
        return await self._go_on(partial(self._answer, answers=answers))

    async def _go_on(self, begin: Callable[[Client], Awaitable[bool]]) -> bool:
        """``begin`` says whether the chat moves by what it does."""
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with Client(self._url, self._token) as client, trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, client, signals, nursery)
                nursery.start_soon(self._tell_of_silence, sent := trio.Event())
                moves = await begin(client)
                sent.set()
                if self._typed is not None:
                    nursery.start_soon(self._listen, client, self._typed)
                chat = await (self._follow(client) if moves else client.chat(str(self.chat_id)))
                nursery.cancel_scope.cancel()
        if chat["status"] == "error":
            self._note(f"Error: {chat['last_error']['message']}")
        self._tell_needs(chat)
        return bool(chat["status"] == "waiting")

    def _tell_needs(self, chat: Json) -> None:
        self.actions = chat.get("action_required", [])
        for action in self.actions:
            what = f"waits for {WAITED_FOR.get(action['kind'], action['kind'])}: {call_line(action)}"
            self._note(f"[{what}]" if "chat_id" not in action else _of_agent(what, action["chat_id"]))

    async def _tell_of_silence(self, sent: trio.Event) -> None:
        """Say so if the first answer does not come soon, as the address may be wrong."""
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

    async def _listen(self, client: Client, typed: Callable[[], Awaitable[str]]) -> None:
        """Send the lines that are typed while the chat is at work."""
        while line := await typed():
            await self._is_taken(partial(self._obey_line, client, line.strip()))

    async def _is_taken(self, tell: Callable[[], Awaitable[object]]) -> bool:
        """Whether what somebody says is taken; a refusal is noted."""
        try:
            await tell()
        except click.UsageError as error:
            self._note(f"Error: {error.message}")
        except ApiError as error:
            if error.status >= SERVER_ERROR:
                raise
            self._note(f"Error: {error}")
        else:
            return True
        return False

    async def _obey_line(self, client: Client, line: str) -> None:
        """Raises ``click.UsageError``."""
        command, _, rest = line.partition(" ")
        if command == STOP:
            await self._interrupt(client, str(self.chat_id))
        elif command in (ANSWER, DECLINE):
            if self._asking is None:
                raise click.UsageError("nothing is asked right now")
            reply = typed_answer(line, self._asking)
            await client.answer_questions(str(self.chat_id), self._asking["call_id"], **reply)
        elif command == COMPACT:
            raise click.UsageError(f"{COMPACT} is for when the answer is there")
        elif (path := attached(line)) is not None:
            self.attach(path)
        elif not is_blank(content := rest if command == QUEUE else line):
            await client.send(str(self.chat_id), content, busy="queue" if command == QUEUE else "steer")
            self._note("[queued]" if command == QUEUE else "[goes in at the next step]")

    async def _answer(self, client: Client, *, answers: Mapping[str, Json | None]) -> bool:
        chat_id = str(self.chat_id)
        await self._skip_history(client, chat_id)
        taken = [await self._is_taken(partial(_reply, client, chat_id, *answer)) for answer in answers.items()]
        return any(taken)

    async def _compact(self, client: Client) -> bool:
        await self._skip_history(client, str(self.chat_id))
        await client.compact(str(self.chat_id))
        return True

    async def _interrupt(self, client: Client, chat_id: str) -> None:
        try:
            await client.interrupt(chat_id)
        except ApiError as error:
            if error.status != NOT_NOW:  # it has come to rest meanwhile
                raise

    async def _send(self, client: Client, *, content: str) -> bool:
        with_files = await self._with_files(client, content)
        if self.chat_id is None:
            chat = await client.create(with_files, **self._fields)
            self.chat_id = chat["id"]
        else:
            await self._skip_history(client, self.chat_id)
            await client.send(self.chat_id, with_files, **self._fields)
        self._files.clear()
        return True

    async def _with_files(self, client: Client, content: str) -> str | list[Json]:
        if not self._files:
            return content
        try:
            uploaded = [await client.upload(path) for path in self._files]
        except OSError as error:
            raise click.ClickException(f"cannot read {error.filename}: {error.strerror}") from None
        return [*map(file_part, uploaded), {"type": "text", "text": content}]

    async def _skip_history(self, client: Client, chat_id: str) -> None:
        """What was said before this conversation began is not shown."""
        if self._seen_id is None:
            history = await client.history(chat_id)
            self._seen_id = history[-1]["id"] if history else 0

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
            for message in known_messages(page["messages"]):
                self._show_message(message)
            has_more = page["has_more"]
        return chat

    def _show(self, event: Event) -> None:
        match event:
            case PartFrame(part=TextPart(text=text)):
                self._text += text
                self._printer.show(self._text)
            case PartFrame(part=ToolOutputPart(call_id=call_id) as piece):
                self._note_lines(self._outputs.setdefault(call_id, OutputLines()).add(piece))
            case AttemptFrame() | HistoryResetEvent():
                self._text = ""
            case MessageEvent(message=message):
                self._show_message(message)
            case ActionRequiredEvent():
                self._show_needs(event)
            case RetryEvent():
                self._text = ""
                wait = f"trying again in {event.delay_ms / 1000:g} s"
                self._note(f"[{event.error}; {wait if event.model is None else f'asking {event.model}'}]")

    def _show_message(self, message: Message) -> None:
        if message.id <= (self._seen_id or 0):
            return
        self._seen_id = message.id
        if message.role is Role.ASSISTANT:
            self._printer.finish(text_of(message.parts))
            self._text = ""
            for source in (part for part in message.parts if isinstance(part, SourcePart)):
                self._note(f"[source: {visible(' '.join(filter(None, (source.title, source.url))))}]")
            if message.finish_reason == "interrupted":
                self._note("[interrupted]")
        self._show_calls(message)

    def _show_calls(self, message: Message) -> None:
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                self._note(f"[calls {part.name} {few_words(part.arguments)}]")
                self._called[part.id] = part.name
            elif isinstance(part, ToolResultPart):
                self._note_lines(self._outputs.pop(part.call_id, OutputLines()).rest())
                line = agent_line(self._called.pop(part.call_id, ""), part.text)
                self._note(f"[{line or ('failed: ' if part.is_error else 'result: ') + few_words(part.text)}]")

    def _note_lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._note(f"  | {line}")

    def _show_needs(self, event: ActionRequiredEvent) -> None:
        """What servers ask, and what agents wait for, once: they have chats of their own, in which it is answered."""
        self._asking = None
        for call in event.calls:
            if call.chat_id is UNSET and call.kind == QUESTION:
                self._show_question(msgspec.to_builtins(call))
            elif call.chat_id is not UNSET and call.call_id not in self._called:
                self._called[call.call_id] = call.name
                what = f"waits for {WAITED_FOR.get(call.kind, call.kind)}: {call.name} {few_words(call.arguments)}"
                self._note(_of_agent(what, call.chat_id))

    def _show_question(self, action: Json) -> None:
        """The question may come of a running call: then it is answered while the turn runs."""
        self._asking = action
        for question in action["questions"]:
            self._note(f"[{action['name']} asks: {question_line(question)}; while it runs: {ANSWER} JSON, {DECLINE}]")


async def _reply(client: Client, chat_id: str, call_id: str, reply: Json | None) -> None:
    if reply is None:
        await client.deny(chat_id, call_id)
    elif "answers" in reply:
        await client.answer_questions(chat_id, call_id, **reply)
    else:
        await client.approve(chat_id, call_id, **reply)


def _of_agent(what: str, chat_id: object) -> str:
    return f"[an agent {what}; answer it with `chatcluster chat --chat {chat_id}`]"
