"""Orders about front doors: answers in new chats, each asked for and read in one request, as a door's client does it.

What a door says is not decoded: it is looked through for the first word of the answer, and for its end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

from bench.load.loop import Connection, Loop
from bench.load.people import LoadError, Say
from bench.samples import spread

SECONDS_MAX = 60.0
TAIL_BYTES = 64
"""Of what was read, kept for marks that come in two pieces."""


class Door(NamedTuple):
    """``begins``: how the first piece of an answer is known; ``ends``: how its end is."""

    path: str
    body: Callable[[str, int], dict[str, Any]]
    begins: bytes
    ends: bytes


def _message(content: str, number: int) -> dict[str, Any]:
    return {"id": f"m{number}", "role": "user", "content": content}


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
}
NUMBERS = count(time.time_ns())
"""Names of chats: never the same twice."""


class _Client:
    """Answer after answer, each on a connection of its own, at one replica after the other."""

    def __init__(self, loop: Loop, door: Door, token: str, addresses: Iterator[str], content: str) -> None:
        self.first_ms: list[float] = []
        self.answers = 0
        self.failed = 0
        self._loop = loop
        self._door = door
        self._token = token
        self._addresses = addresses
        self._content = content

    def ask(self) -> None:
        _Answer(self._loop, next(self._addresses), self._request(), self._door, self)

    def _request(self) -> bytes:
        body = json.dumps(self._door.body(self._content, next(NUMBERS))).encode()
        head = (
            f"POST {self._door.path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._token}\r\n"
            f"Accept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def forget(self) -> None:
        """What was measured so far was the warm-up."""
        self.first_ms, self.answers, self.failed = [], 0, 0

    def ended(self, *, well: bool) -> None:
        self.answers += well
        self.failed += not well
        self.ask()


class _Answer(Connection):
    def __init__(self, loop: Loop, address: str, request: bytes, door: Door, client: _Client) -> None:
        host, port = address.split(":")
        super().__init__(loop, (host, int(port)))
        self._door = door
        self._client = client
        self._has_begun = False
        self._tail = b""
        self._asked_ns = time.monotonic_ns()
        self.send(request)

    def received(self, data: bytes) -> None:
        data = self._tail + data
        if not self._has_begun and self._door.begins in data:
            self._has_begun = True
            self._client.first_ms.append((time.monotonic_ns() - self._asked_ns) / 1e6)
        if self._door.ends in data:
            self.close()
            self._client.ended(well=self._has_begun)
        self._tail = data[-TAIL_BYTES:]

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
    warm_seconds: float,
    seconds: float,
) -> dict[str, Any]:
    """Answers through one door, ``concurrency`` at a time. Says "started" after the warm-up. The first token counts
    from before the connection to the first piece of the answer."""
    turns = _round(addresses)
    clients = [_Client(loop, DOORS[door], token, turns, content) for _ in range(concurrency)]
    for client in clients:
        client.ask()
    loop.run(lambda: False, warm_seconds)
    if not loop.run(lambda: all(client.answers or client.failed for client in clients), SECONDS_MAX):
        raise LoadError(f"not every client at the door {door} had an answer in {SECONDS_MAX:.0f} s")
    for client in clients:
        client.forget()
    say("started")
    loop.run(lambda: False, seconds)
    return {
        "first": spread([sample for client in clients for sample in client.first_ms]),
        "answers": sum(client.answers for client in clients),
        "failed": sum(client.failed for client in clients),
    }


def _round(addresses: Sequence[str]) -> Iterator[str]:
    for number in count():
        yield addresses[number % len(addresses)]
