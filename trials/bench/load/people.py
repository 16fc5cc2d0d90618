"""The clients, each on a connection: a sender of messages, a reader of a chat."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from event_wire import AnswerParser, Event, StreamParser, parse_event, request, request_anywhere

from bench.load.loop import Address, Connection, Loop

ADDRESS_SEPARATOR = ":"


class LoadError(Exception):
    """The cluster did not do what the order is about, so there is nothing to measure."""


class Say(Protocol):
    """Tell something to the one that gave the order; ``wait`` until it was dealt with."""

    def __call__(self, said: object, *, wait: bool = False) -> None: ...


class Plan(NamedTuple):
    """Whom every connection speaks for. With a ``cookie`` readers are tabs of a page."""

    loop: Loop
    token: str
    cookie: str = ""


def address_of(text: str) -> Address:
    host, _, port = text.rpartition(ADDRESS_SEPARATOR)
    return host, int(port)


class Sender(Connection):
    """Requests on one connection, answered in order. A refusal raises ``LoadError``, in the loop."""

    def __init__(self, plan: Plan, address: str) -> None:
        super().__init__(plan.loop, address_of(address))
        self._token = plan.token
        self._parser = AnswerParser()
        self._waiting: deque[Callable[[dict[str, Any]], None]] = deque()

    def ask(self, method: str, path: str, body: Any, then: Callable[[dict[str, Any]], None]) -> None:
        self._waiting.append(then)
        self.send(request(method, path, self._token, body))

    def say(self, chat_id: str, content: str, then: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        """Send a message to a chat."""
        self.ask("POST", f"/chats/{chat_id}/messages", {"content": content}, then)

    def get(self, target: str, then: Callable[[dict[str, Any]], None]) -> None:
        """Ask for any address of the server."""
        self._waiting.append(then)
        self.send(request_anywhere("GET", target, self._token))

    def received(self, data: bytes) -> None:
        for status, body in self._parser.feed(data):
            if status >= 400:
                raise LoadError(f"a request was refused: {status} {body[:200].decode(errors='replace')}")
            self._waiting.popleft()(json.loads(body))

    def closed(self) -> None:
        if self._waiting:
            raise LoadError("a connection was closed before its answer came")


class Reader(Connection):
    """Follows a chat's stream. ``on_event`` gets the reader, the event, and when it came (monotonic ns)."""

    def __init__(
        self,
        plan: Plan,
        address: str,
        chat_id: str,
        on_event: Callable[[Reader, Event, int], None],
        *,
        cursor: str = "",
    ) -> None:
        super().__init__(plan.loop, address_of(address))
        self.chat_id = chat_id
        self.cursor = cursor
        self.broke_off = False
        self._on_event = on_event
        self._parser = StreamParser()
        path = f"/watch?chat={chat_id}" if plan.cookie else f"/chats/{chat_id}/stream"
        self.send(request("GET", path, plan.token, cursor=cursor, cookie=plan.cookie))

    def __repr__(self) -> str:
        return f"<Reader {self.chat_id} at {self.cursor or 'the start'}{', broken off' * self.broke_off}>"

    def received(self, data: bytes) -> None:
        now_ns = time.monotonic_ns()
        for block in self._parser.feed(data):
            if not self.is_open:
                return
            event = parse_event(block)
            if event.kind:
                self.cursor = event.id
                self._on_event(self, event, now_ns)
        if self._parser.status not in (0, 200):
            raise LoadError(f"a stream was refused: {self._parser.status}")

    def closed(self) -> None:
        self.broke_off = True


def is_at_rest(event: Event) -> bool:
    return event.kind == b"status" and b'"status":"waiting"' in event.data


def is_answer(event: Event) -> bool:
    return event.kind == b"message" and b'"role":"assistant"' in event.data


def epoch_of(event: Event) -> int:
    """The tenure that the event's id points to."""
    return int(event.id.partition(".")[2].partition("-")[0])
