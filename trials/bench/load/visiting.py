"""Clients that keep nothing open: a stream for each turn, a stream opened and closed, one request after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from event_wire import Event

from bench.load.loop import Loop
from bench.load.people import Plan, Reader, Say, Sender, is_answer, is_at_rest
from bench.samples import spread


class _Visitor:
    """Creates a chat on one replica, follows it on the next until it rests, leaves; and again."""

    def __init__(self, plan: Plan, addresses: Sequence[str], content: str) -> None:
        self.first_ms: list[float] = []
        self.turns = 0
        self.failed = 0
        self._plan = plan
        self._content = content
        self._ways = cycle(zip(addresses, (*addresses[1:], addresses[0]), strict=True))
        self._senders = {address: Sender(plan, address) for address in addresses}
        self._asked_ns = 0
        self._answered = self._rests = False

    def visit(self) -> None:
        sends_to, self._reads_at = next(self._ways)
        self._answered = self._rests = False
        self._asked_ns = time.monotonic_ns()
        self._senders[sends_to].ask("POST", "/chats", {"content": self._content}, self._follow)

    def forget(self) -> None:
        """What was measured so far was the warm-up."""
        self.first_ms, self.turns, self.failed = [], 0, 0

    def _follow(self, chat: dict[str, Any]) -> None:
        Reader(self._plan, self._reads_at, chat["id"], self._read)

    def _read(self, reader: Reader, event: Event, now_ns: int) -> None:
        if not self._answered and (event.kind == b"part" or is_answer(event)):
            self._answered = True
            self.first_ms.append((now_ns - self._asked_ns) / 1e6)
        self._rests |= is_at_rest(event)  # first of all, where the answer was quicker than the stream
        if event.kind == b"error" or (self._answered and self._rests):
            self.failed += event.kind == b"error"
            self.turns += 1
            reader.close()
            self.visit()


def visits(
    loop: Loop,
    say: Say,
    *,
    token: str,
    addresses: Sequence[str],
    concurrency: int,
    content: str,
    warm_seconds: float,
    seconds: float,
) -> dict[str, Any]:
    """Turn after turn in new chats, ``concurrency`` at a time, each with a stream of its own. Says "started" after the
    warm-up."""
    plan = Plan(loop, token)
    visitors = [_Visitor(plan, addresses, content) for _ in range(concurrency)]
    for visitor in visitors:
        visitor.visit()
    loop.run(lambda: False, warm_seconds)
    for visitor in visitors:
        visitor.forget()
    say("started")
    started = time.monotonic()
    loop.run(lambda: False, seconds)
    return {
        "first": spread([sample for visitor in visitors for sample in visitor.first_ms]),
        "turns": sum(visitor.turns for visitor in visitors),
        "failed": sum(visitor.failed for visitor in visitors),
        "seconds": time.monotonic() - started,
    }


def openings(
    loop: Loop,
    say: Say,
    *,
    token: str,
    address: str,
    chats: Sequence[str],
    concurrency: int,
    seconds: float,
    cookie: str = "",
) -> dict[str, Any]:
    """Open a stream of a chat at rest, leave when its state has come, and again."""
    plan = Plan(loop, token, cookie)
    taken_ms: list[float] = []
    following = cycle(chats)

    def open_one() -> None:
        began_ns = time.monotonic_ns()

        def read(reader: Reader, event: Event, now_ns: int) -> None:
            if reader.is_open and is_at_rest(event):
                taken_ms.append((now_ns - began_ns) / 1e6)
                reader.close()
                open_one()

        Reader(plan, address, next(following), read)

    say("started")
    started = time.monotonic()
    for _ in range(concurrency):
        open_one()
    loop.run(lambda: False, seconds)
    return {"taken": spread(taken_ms), "count": len(taken_ms), "seconds": time.monotonic() - started}


def asks(
    loop: Loop, say: Say, *, token: str, address: str, paths: Sequence[str], concurrency: int, seconds: float
) -> dict[str, Any]:
    """One GET after the other on each of a few connections. A path starts at the root of the server."""
    plan = Plan(loop, token)
    taken_ms: list[float] = []
    following = cycle(paths)

    def ask(sender: Sender) -> None:
        began_ns = time.monotonic_ns()

        def answered(_: dict[str, Any]) -> None:
            taken_ms.append((time.monotonic_ns() - began_ns) / 1e6)
            ask(sender)

        sender.get(next(following), answered)

    say("started")
    started = time.monotonic()
    for _ in range(concurrency):
        ask(Sender(plan, address))
    loop.run(lambda: False, seconds)
    return {"taken": spread(taken_ms), "count": len(taken_ms), "seconds": time.monotonic() - started}
