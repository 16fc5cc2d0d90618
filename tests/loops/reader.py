"""A client: reads a chat's event stream as bytes, keeps a view of it, and holds the server to its promises.

Whatever a test is about, each ``Reader`` checks on every event that (P3)

* the first event is the status, and cursors never go back;
* no message comes twice, and none before an older one, except after ``history_reset``;
* what was streamed of an answer is how the answer begins that went into history;
* a chat at rest leaves no preview behind that did not become history

(the last two unless ``words_may_be_lost``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster.parts import BEGINNING, START, Cursor, parse_cursor
from chatcluster.subscriber import Cut, Subscriber

READ_SECONDS_MAX = 100.0

Join = Callable[[Cursor], AbstractAsyncContextManager[Subscriber]]


class Event(NamedTuple):
    """One server-sent event as it came off the wire."""

    id: str
    type: str
    data: dict[str, Any]

    @property
    def line(self) -> str:
        """The event in a few words, for assertions that read as a transcript."""
        data = self.data
        match self.type:
            case "status":
                return f"status {data['status']}" + (" archived" if data["archived"] else "")
            case "message":
                return f"{data['message']['role']}: {text_of(data['message']['parts'])}"
            case "attempt":
                return f"attempt {data['attempt']}"
            case "part":
                part = data["part"]
                return part["text"] if part["type"] == "text" else f"({_piece_of(part)})"
            case "queue":
                return f"queue {[text_of(queued['parts']) for queued in data['queue']]}"
            case "action_required":
                return f"action {[call['call_id'] for call in data['calls']]}"
            case "retry":
                return f"retry {data['attempt']} {data['kind']}"
            case "error":
                return f"error {data['error']['code']}"
            case "turn":
                return f"turn {data['message_id']} {data.get('code') or data['outcome']}"
            case "title":
                return f"title {data['title']}"
            case _:
                return self.type


class View:
    """What a client shows, and the checks on every event."""

    def __init__(self) -> None:
        self.status = ""
        self.cursor = BEGINNING
        self.messages: dict[int, str] = {}
        self.queue: list[str] = []
        self.preview = ""
        self.joining = False
        """The first events of a subscription are coming: status, messages, queue."""
        self.words_may_be_lost = False
        """Redis, or a bug, lost what was said since: the preview is of an attempt that did not become history."""
        self.events: list[Event] = []

    def apply(self, event: Event) -> None:
        self.events.append(event)
        self._check_cursor(event)
        match event.type:
            case "status":
                self.status = event.data["status"]
                self._check_rest()
            case "message":
                self._message(event)
            case "part" if event.data["part"]["type"] == "text":
                self.preview += event.data["part"]["text"]
            case "attempt" | "retry" | "error":
                self.preview = ""
            case "history_reset":
                self.preview = ""
                self.messages.clear()
            case "queue":
                self.queue = [text_of(queued["parts"]) for queued in event.data["queue"]]
                self.joining = False
                self._check_rest()

    def _message(self, event: Event) -> None:
        message = event.data["message"]
        newest = max(self.messages, default=0)
        assert message["id"] > newest, f"message {message['id']} after {newest}"
        self.messages[message["id"]] = event.line
        if message["role"] in ("assistant", "tool"):
            text = text_of(message["parts"])
            kept = text.startswith(self.preview) or self.words_may_be_lost
            assert kept, f"streamed {self.preview[:99]!r}, but history has {text[:99]!r}"
            self.preview = ""

    def _check_rest(self) -> None:
        at_rest = self.status == "waiting" and not self.joining
        if self.words_may_be_lost and at_rest:
            self.preview = ""
        assert not (at_rest and self.preview), (
            f"left behind at rest: {self.preview[:99]!r} in {[e.line[:60] for e in self.events if e.type != 'part']}"
        )

    def _check_cursor(self, event: Event) -> None:
        cursor = parse_cursor(event.id)
        if event.type != "history_reset" and cursor.position != START:
            recent = [f"{event.id} {event.line[:40]}" for event in self.events[-6:]]
            assert cursor.position >= self.cursor.position, f"{cursor} after {self.cursor}: {recent}"
            assert cursor.version >= self.cursor.version, f"{cursor} after {self.cursor}: {recent}"
        self.cursor = cursor


class Reader:
    """One client on one replica, until it leaves or is cut; its ``view`` can go on elsewhere (``resume``)."""

    def __init__(self, chat_id: UUID, join: Join, view: View | None = None) -> None:
        self.chat_id = chat_id
        self.view = view or View()
        self.first = len(self.view.events)
        self.cut: str | None = None
        """Why the stream broke off, if it did."""
        self._join = join
        self._left = False
        self._scope = trio.CancelScope()
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Reader at {self.view.cursor} {self.story[-5:]}>"

    async def run(
        self, cursor: Cursor | None = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read until cut or told to leave. Started when the subscription stands."""
        with self._scope:
            async with self._join(self.view.cursor if cursor is None else cursor) as subscriber:
                self.view.joining = True
                task_status.started()
                try:
                    while True:
                        self._take(await subscriber.receive())
                except Cut as cut:
                    self.cut = str(cut)
                    self._change()

    def leave(self) -> None:
        """The client closes the connection: what is on its way is not read any more."""
        self._left = True
        self._scope.cancel()

    def _take(self, data: bytes) -> None:
        for event in () if self._left else parse_events(data):
            assert event.type == "status" or len(self.view.events) > self.first, "the first event is the status"
            self.view.apply(event)
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # what it has read

    @property
    def events(self) -> list[Event]:
        return self.view.events[self.first :]

    @property
    def story(self) -> list[str]:
        """All events in a few words each; parts in a row are one, however they were cut.

        Where the snapshot ends, and what turns ended, is not among them: see ``turns`` and ``is_ready``.
        """
        return story_of([event for event in self.events if event.type not in ("ready", "turn")])

    @property
    def turns(self) -> list[str]:
        """The turns whose end it was told, in a few words each."""
        return [event.line for event in self.events if event.type == "turn"]

    @property
    def is_ready(self) -> bool:
        """Whether it was told that what came is the state."""
        return any(event.type == "ready" for event in self.events)

    @property
    def history(self) -> list[str]:
        return list(self.view.messages.values())

    @property
    def preview(self) -> str:
        return self.view.preview

    @property
    def status(self) -> str:
        return self.view.status

    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    # waiting for it

    async def until(self, condition: Callable[[Reader], bool], *, within: float = READ_SECONDS_MAX) -> None:
        """Wait until what was read meets the condition, for at most ``within`` (virtual) seconds."""
        with trio.move_on_after(within):
            while not condition(self):
                await self._changed.wait()
        assert condition(self), f"not within {within:g} s; read {self.story}"

    async def until_line(self, line: str, *, within: float = READ_SECONDS_MAX) -> None:
        """Wait until an event with this line was read."""
        await self.until(lambda reader: line in reader.story, within=within)

    async def until_preview(self, text: str, *, within: float = READ_SECONDS_MAX) -> None:
        await self.until(lambda reader: reader.preview == text, within=within)

    async def until_status(self, status: str, *, within: float = READ_SECONDS_MAX) -> None:
        await self.until(lambda reader: reader.status == status, within=within)

    async def until_cut(self, *, within: float = READ_SECONDS_MAX) -> None:
        await self.until(lambda reader: reader.cut is not None, within=within)


def parse_events(data: bytes) -> list[Event]:
    """Whole server-sent events."""
    assert data.endswith(b"\n\n")
    return [_event(block) for block in data.decode().split("\n\n")[:-1]]


def _event(block: str) -> Event:
    fields = dict(line.split(": ", 1) for line in block.splitlines())
    data = msgspec.json.decode(fields["data"])
    assert data["type"] == fields["event"]
    return Event(fields["id"], fields["event"], data)


def _piece_of(part: dict[str, Any]) -> str:
    match part["type"]:
        case "tool_call":
            return f"{part['name']}{part['arguments']}"
        case "tool_progress":
            return f"{part['call_id']} {part['progress']:g}"
        case "tool_result":
            return f"{part['call_id']}: {text_of(part['content'])}"
        case "notice":
            return f"{part['code']} {part.get('source')}"
        case _:
            return str(part["url"] if part["type"] == "source" else part["text"])


def story_of(events: list[Event]) -> list[str]:
    story: list[str] = []
    for is_part, run in groupby(events, key=lambda event: event.type == "part"):
        lines = [event.line for event in run]
        story.extend(["… " + "".join(lines)] if is_part else lines)
    return story


def text_of(parts: list[dict[str, Any]]) -> str:
    return "".join(part["text"] for part in parts if part["type"] == "text")
