"""Readers that come back: many at once to a long answer, one again and again in mid-stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from event_wire import Event, request

from bench.load.loop import Connection, Loop
from bench.load.people import LoadError, Plan, Reader, Say, Sender, address_of, is_answer, is_at_rest
from bench.load.streaming import Listener, accounts, ages_ms, attach
from bench.samples import spread
from bench.stamps import Account, account, stamps_in

CAUGHT_UP_SECONDS_MAX = 20.0
SETTLE_SECONDS = 0.5
AFTERWARDS_SECONDS = 0.3
PAUSE_SECONDS = 0.1
"""Until what has come during a wait of ours is read."""
PART = b"event: part\n"


class _Rejoiner(Connection):
    """Reads the whole answer from its beginning, and only counts its parts: it must cost next to nothing."""

    def __init__(self, plan: Plan, address: str, chat_id: str) -> None:
        super().__init__(plan.loop, address_of(address))
        self.parts = 0
        self._tail = b""
        self.send(request("GET", f"/chats/{chat_id}/stream", plan.token))

    def received(self, data: bytes) -> None:
        # a heading that two pieces share is counted when its end comes
        self.parts += (self._tail + data).count(PART)
        self._tail = data[1 - len(PART) :]


def rejoin(
    loop: Loop,
    say: Say,
    *,
    token: str,
    chat_id: str,
    sends_to: str,
    addresses: Sequence[str],
    others: int,
    readers: int,
    content: str,
    burst: int,
    expected: int,
    seconds_max: float,
) -> dict[str, Any]:
    """``readers`` come at once to an answer of ``burst`` parts that goes on, while ``others`` follow it live.

    A rejoiner is caught up when it has as many parts as there were when it came. Says "started" when they come.
    """
    plan = Plan(loop, token)
    living = [Listener(plan, addresses[index % len(addresses)], chat_id) for index in range(others)]
    attach(loop, living)
    Sender(plan, sends_to).say(chat_id, content)
    if not loop.run(lambda: all(len(one.seen) > burst for one in living), CAUGHT_UP_SECONDS_MAX):
        raise LoadError(f"the answer did not come to {burst} parts")
    loop.run(lambda: False, SETTLE_SECONDS)
    say("started", wait=True)
    loop.run(lambda: False, PAUSE_SECONDS)
    came_ns = time.monotonic_ns()
    parts = min(len(one.seen) for one in living)
    rejoiners = [_Rejoiner(plan, addresses[index % len(addresses)], chat_id) for index in range(readers)]
    loop.run(lambda: all(one.parts >= parts for one in rejoiners), CAUGHT_UP_SECONDS_MAX)
    caught_up_ms = (time.monotonic_ns() - came_ns) / 1e6
    loop.run(lambda: False, AFTERWARDS_SECONDS)
    others_ms = ages_ms(living, came_ns, time.monotonic_ns())
    behind = sum(one.parts < parts for one in rejoiners)
    for rejoiner in rejoiners:
        rejoiner.close()
    loop.run(lambda: all(one.finished_ns for one in living), seconds_max)
    result = accounts(living, expected)
    result["unserved"] += behind
    return {**result, "caught_up_ms": caught_up_ms, "others": spread(others_ms), "parts": parts}


class _Returner:
    """Reads a few parts, leaves, and comes back by its cursor at the next address."""

    def __init__(self, plan: Plan, chat_id: str, addresses: Sequence[str], *, parts: int, away_seconds: float) -> None:
        self.attached = False
        self.returns_ms: list[float] = []
        self.seen: list[int] = []
        self.committed: list[int] | None = None
        self._plan = plan
        self._chat_id = chat_id
        self._addresses = addresses
        self._parts = parts
        self._away_seconds = away_seconds
        self._visits = 0
        self._came_ns = 0
        self._left = 0
        self._reader = Reader(plan, addresses[0], chat_id, self._read)

    def account(self, expected: int) -> Account:
        return account(self.seen, self.committed or (), expected, away_at_end=self._came_ns > 0)

    def _read(self, reader: Reader, event: Event, now_ns: int) -> None:
        if reader is not self._reader:
            return  # what came in one piece with the part at which we left
        if not self.attached:
            self.attached = is_at_rest(event)
        elif event.kind == b"part":
            if self._came_ns:
                self.returns_ms.append((now_ns - self._came_ns) / 1e6)
                self._came_ns = 0
            self.seen += stamps_in(event.data)
            self._left -= 1
            if self._left < 0 and reader.is_open:
                self._leave()
        elif is_answer(event) and self.seen:
            self.committed = stamps_in(event.data)  # if it is the first that comes after a return, we were away

    def _leave(self) -> None:
        self._left = self._parts
        cursor = self._reader.cursor
        self._reader.close()
        self._reader = None  # type: ignore[assignment]
        self._plan.loop.call_later(self._away_seconds, lambda: self._come_back(cursor))

    def _come_back(self, cursor: str) -> None:
        self._visits += 1
        self._came_ns = time.monotonic_ns()
        address = self._addresses[self._visits % len(self._addresses)]
        self._reader = Reader(self._plan, address, self._chat_id, self._read, cursor=cursor)


def resume(
    loop: Loop,
    say: Say,
    *,
    token: str,
    chats: Sequence[tuple[str, str]],
    addresses: Sequence[str],
    content: str,
    expected: int,
    parts: int,
    away_seconds: float,
    seconds_max: float,
) -> dict[str, Any]:
    """One reader to a chat leaves after every few parts and comes back by its cursor, until the answer is whole.

    ``chats`` are IDs with the address that the message goes to. Tells how long after each return the first
    missing part was there. Says "started" before the messages.
    """
    plan = Plan(loop, token)
    returners = [_Returner(plan, chat_id, addresses, parts=parts, away_seconds=away_seconds) for chat_id, _ in chats]
    if not loop.run(lambda: all(one.attached for one in returners), CAUGHT_UP_SECONDS_MAX):
        raise LoadError("not all readers were attached")
    say("started", wait=True)
    for chat_id, address in chats:
        Sender(plan, address).say(chat_id, content)
    loop.run(lambda: all(one.committed is not None for one in returners), seconds_max)
    every = [one.account(expected) for one in returners if one.committed is not None]
    return {
        "returns": spread([sample for one in returners for sample in one.returns_ms]),
        "count": sum(len(one.returns_ms) for one in returners),
        "lost": sum(one.lost for one in every),
        "doubled": sum(one.doubled + one.disordered for one in every),
        "failed": len(returners) - len(every),
    }
