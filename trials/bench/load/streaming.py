"""Streams: answers of tokens that say when they were said, and readers that tell how old each one came."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from event_wire import Event

from bench.load.loop import Loop
from bench.load.people import LoadError, Plan, Reader, Say, Sender, is_answer, is_at_rest
from bench.samples import spread
from bench.stamps import account, stamps_in

ATTACH_SECONDS_MAX = 60.0


class Listener:
    """A reader of answers with stamps."""

    def __init__(self, plan: Plan, address: str, chat_id: str, *, cursor: str = "") -> None:
        self.plan = plan
        self.chat_id = chat_id
        self.attached = bool(cursor)
        self.seen: list[int] = []
        self.came_ns: list[int] = []
        """For each that was seen, when it came."""
        self.committed: list[int] | None = None
        self.finished_ns = 0
        self.reader = Reader(plan, address, chat_id, self._read, cursor=cursor)

    def _read(self, _: Reader, event: Event, now_ns: int) -> None:
        if not self.attached:
            self.attached = is_at_rest(event)  # what comes with it is the history
        elif event.kind == b"part":
            stamps = stamps_in(event.data)
            self.seen += stamps
            self.came_ns += [now_ns] * len(stamps)
        elif is_answer(event) and self.seen:
            self.committed = stamps_in(event.data)
            self.finished_ns = now_ns


def ages_ms(listeners: Sequence[Listener], from_ns: int, to_ns: int) -> list[float]:
    """How old the tokens were that came in a span of time, in milliseconds."""
    return [
        (came - stamp) / 1e6
        for listener in listeners
        for stamp, came in zip(listener.seen, listener.came_ns, strict=True)
        if from_ns <= came <= to_ns
    ]


def accounts(listeners: Sequence[Listener], expected: int) -> dict[str, int]:
    """What became of the tokens of all answers that were finished, over all readers."""
    every = [account(one.seen, one.committed, expected) for one in listeners if one.committed is not None]
    return {
        "lost": sum(one.lost for one in every),
        "doubled": sum(one.doubled + one.disordered for one in every),
        "unserved": len(listeners) - len(every),
    }


def attach(loop: Loop, listeners: Sequence[Listener]) -> None:
    """Wait until every reader has what there is of its chat, which is at rest. Raises ``LoadError``."""
    if not loop.run(lambda: all(one.attached for one in listeners), ATTACH_SECONDS_MAX):
        count = sum(one.attached for one in listeners)
        raise LoadError(f"only {count} of {len(listeners)} readers were attached in {ATTACH_SECONDS_MAX:.0f} s")


def stream(
    loop: Loop,
    say: Say,
    *,
    token: str,
    sends: Sequence[tuple[str, str]],
    reads: Sequence[tuple[str, str]],
    content: str,
    expected: int,
    spread_seconds: float,
    seconds_max: float,
    cookie: str = "",
) -> dict[str, Any]:
    """Let all chats answer at once, and tell the age of the tokens while all of them are at it.

    ``sends`` and ``reads`` are pairs of address and chat. Messages are sent over ``spread_seconds``, so
    that the start of the answers is not what is measured. Says "started" before the first one.
    """
    plan = Plan(loop, token, cookie)
    listeners = [Listener(plan, address, chat_id) for address, chat_id in reads]
    attach(loop, listeners)
    senders = {address: Sender(plan, address) for address, _ in groupby(sorted(address for address, _ in sends))}
    say("started", wait=True)
    for index, (address, chat_id) in enumerate(sends):
        loop.call_later(
            spread_seconds * index / len(sends),
            lambda address=address, chat_id=chat_id: senders[address].say(chat_id, content),  # type: ignore[misc]
        )
    loop.run(lambda: all(one.finished_ns for one in listeners), seconds_max)
    began = [one.came_ns[0] for one in listeners if one.came_ns]
    ended = [one.finished_ns for one in listeners if one.finished_ns]
    whole = (max(began, default=0), min(ended, default=0))
    return {
        "age": spread(ages_ms(listeners, *whole)),
        "tokens": sum(len(one.seen) for one in listeners),
        "broke_off": sum(one.reader.broke_off for one in listeners),
        "measured_seconds": (whole[1] - whole[0]) / 1e9,
        **accounts(listeners, expected),
    }
