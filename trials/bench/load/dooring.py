"""Orders about front doors: answers in new chats, each asked for and read as a door's client does it: in one
request, or in two on one connection where the door's protocol has calls.

What a door says is not decoded: it is looked through for the first word of the answer, and for its end.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from bench.load.loop import Connection, Loop
from bench.load.people import LoadError, Say
from bench.samples import spread

SECONDS_MAX = 60.0
TAIL_BYTES = 64
"""So much of what was read is kept for marks that come in two pieces."""


class Door(NamedTuple):
    """``begins``: how the first piece of an answer is known, None where all of it comes at once; ``ends``: how its end
    is. ``then``: what is asked next on the same connection, of the chat that the first answer names."""

    path: str
    body: Callable[[str, int], dict[str, Any]]
    begins: bytes | None
    ends: bytes
    then: Callable[[str], dict[str, Any]] | None = None


def _message(content: str, number: int) -> dict[str, Any]:
    return {"id": f"m{number}", "role": "user", "content": content}


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


DOORS = {
    "own": Door("/api/v1/chats", lambda content, _: {"content": content}, b"event: part", b"event: turn"),
    "responses": Door(
        "/v1/responses", lambda content, _: {"input": content, "stream": True}, b"output_text.delta", b"[DONE]"
    ),
    "completions": Door(
        "/v1/chat/completions",
        lambda content, number: {"messages": [_message(content, number)], "stream": True, "store": True},
        b'"content":"w',
        b"[DONE]",
    ),
    "ai-sdk": Door(
        "/api/ai/chat",
        lambda content, number: {
            "id": f"bench-{number}",
            "message": {"id": f"m{number}", "role": "user", "parts": [{"type": "text", "text": content}]},
        },
        b'"text-delta"',
        b"[DONE]",
    ),
    "ag-ui": Door(
        "/api/agui",
        lambda content, number: {
            "threadId": f"bench-{number}",
            "runId": f"r{number}",
            "messages": [_message(content, number)],
        },
        b"TEXT_MESSAGE_CONTENT",
        b"RUN_FINISHED",
    ),
    "mcp": Door(
        "/mcp",
        lambda content, _: _call("chat_create", {"content": content}),
        None,
        b'"status":"waiting"',
        then=lambda chat_id: _call("chat_wait", {"chat_id": chat_id, "timeout": 50}),
    ),
}
CHAT_ID = re.compile(rb'"chat_id":"([0-9a-f-]{36})"')
NUMBERS = count(time.time_ns())
"""Names of chats: never the same twice."""


class _Client:
    """Answer after answer, each on a connection of its own, at one replica after the other."""

    def __init__(self, loop: Loop, door: Door, token: str, addresses: Iterator[str], content: str) -> None:
        self.first_ms: list[float] = []
        self.whole_ms: list[float] = []
        self.failed = 0
        self.left = 0
        """Answers that are still to be asked for, or under way."""
        self._loop = loop
        self._door = door
        self._token = token
        self._addresses = addresses
        self._content = content

    def ask(self, answers: int) -> None:
        """For so many, one after the other."""
        self.first_ms, self.whole_ms, self.failed, self.left = [], [], 0, answers
        self._ask()

    def _ask(self) -> None:
        body = self._door.body(self._content, next(NUMBERS))
        _Answer(self._loop, next(self._addresses), self.request(body), self._door, self)

    def request(self, said: dict[str, Any]) -> bytes:
        body = json.dumps(said).encode()
        head = (
            f"POST {self._door.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._token}\r\n"
            f"Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def ended(self, *, well: bool) -> None:
        self.failed += not well
        self.left -= 1
        if self.left:
            self._ask()


class _Answer(Connection):
    def __init__(self, loop: Loop, address: str, request: bytes, door: Door, client: _Client) -> None:
        host, port = address.split(":")
        super().__init__(loop, (host, int(port)))
        self._door = door
        self._client = client
        self._then = door.then
        self._awaits = door.begins
        self._tail = b""
        self._asked_ns = time.monotonic_ns()
        self.send(request)

    def received(self, data: bytes) -> None:
        data = self._tail + data
        if self._then is not None:
            data = self._go_on(data)
        if self._awaits is not None and self._awaits in data:
            self._awaits = None
            self._client.first_ms.append(self._passed_ms())
        if self._door.ends in data:
            self._client.whole_ms.append(self._passed_ms())
            self.close()
            self._client.ended(well=self._awaits is None)
        self._tail = data[-TAIL_BYTES:]

    def _go_on(self, data: bytes) -> bytes:
        """Ask on as soon as the first answer names the chat. What is left of the data to be looked through."""
        named = CHAT_ID.search(data)
        if named is None or self._then is None:
            return data
        self.send(self._client.request(self._then(named[1].decode())))
        self._then = None
        return data[named.end() :]

    def _passed_ms(self) -> float:
        return (time.monotonic_ns() - self._asked_ns) / 1e6

    def closed(self) -> None:
        self._client.ended(well=False)


def answers(
    loop: Loop,
    say: Say,
    *,
    token: str,
    addresses: Sequence[str],
    door: str,
    concurrency: int,
    content: str,
    each: int,
) -> dict[str, Any]:
    """Answers through one door, ``concurrency`` at a time, ``each`` of them in turn; whole ones, so that what they cost
    is told exactly. Says "started" after one each for the warm-up. The first token, and the whole answer, count from
    before the connection."""
    turns = _round(addresses)
    clients = [_Client(loop, DOORS[door], token, turns, content) for _ in range(concurrency)]
    _asked(loop, clients, door, 1)
    say("started")
    _asked(loop, clients, door, each)
    whole = spread([sample for client in clients for sample in client.whole_ms])
    return {
        "first": spread([sample for client in clients for sample in client.first_ms]),
        "whole_ms": whole.get("p50_ms", 0.0),
        "answers": concurrency * each,
        "failed": sum(client.failed for client in clients),
    }


def _asked(loop: Loop, clients: Sequence[_Client], door: str, each: int) -> None:
    for client in clients:
        client.ask(each)
    if not loop.run(lambda: not any(client.left for client in clients), SECONDS_MAX):
        raise LoadError(f"not every client at the door {door} had its answers in {SECONDS_MAX:.0f} s")


def _round(addresses: Sequence[str]) -> Iterator[str]:
    for number in count():
        yield addresses[number % len(addresses)]
