"""Faults of readers: some lose their connections, one does not read for a while.

A **flood** is a chat with more to say than all buffers on the way hold, a reader that stops reading in the middle of
it, and one that does not. The slow one is served all in the end, or it is cut and resumes at its cursor; both hold
the whole answer then, which the checker decides as for every chat.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable
from dataclasses import replace

import trio
from checker import Checker

from chaos.api import Api
from chaos.fleet import Fleet
from chaos.options import Options
from chaos.reader import Reader
from chaos.record import Record
from chaos.route import Route
from chaos.talk import Talk
from chaos.writer import Writer

DROPPED_SHARE = 0.5
FLOOD_TURNS = 3
FLOOD_ANSWER_SECONDS = 2.5
"""Each answer alone fits into a reader's buffer, which holds 1 MB."""
FLOOD_TOKENS_PER_SECOND = 200.0
FLOOD_WORD_BYTES = 1000
SLOW_SECONDS = (3.0, 6.0)
NARROW_BYTES = 32 << 10
"""What the kernel takes for a slow reader that does not read."""
FLOOD_SECONDS_MAX = 60.0


def drop_connections(readers: Iterable[Reader], draw: random.Random) -> int:
    """Reset about half of the connections of ``readers``; how many that were."""
    return sum(reader.drop() for reader in readers if draw.random() < DROPPED_SHARE)


class Flood:
    """One flood, with chats and readers of its own. ``narrow`` is an access whose kernel buffers are small."""

    def __init__(
        self,
        name: str,
        *,
        api: Api,
        narrow: Api,
        fleet: Fleet,
        checker: Checker,
        record: Record,
        options: Options,
        draw: random.Random,
    ) -> None:
        load = replace(
            options.load,
            turns=FLOOD_TURNS,
            tokens_per_second=FLOOD_TOKENS_PER_SECOND,
            answer_seconds=(FLOOD_ANSWER_SECONDS, FLOOD_ANSWER_SECONDS),
        )
        options = replace(options, load=load)
        writer = Writer(name.ljust(FLOOD_WORD_BYTES, "x"), api, checker, record, options, draw)
        self._draw = draw
        self._name = name
        self.slow: Reader | None = None
        self._joined = trio.Event()

        def read(chat: str) -> list[Reader]:
            quick, slow = (
                Reader(
                    checker.subscriber(chat, f"{name}.{kind}"),
                    access,
                    Route(access.base_url, fleet, draw, away=False),
                    record,
                    draw,
                )
                for kind, access in (("quick", api), ("slow", narrow))
            )
            self.slow = slow
            self._joined.set()
            return [quick, slow]

        self.talk = Talk(writer, read, api, checker, {"queue": 1.0})

    async def run(self) -> str:
        """To its end; how the slow reader fared."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pause_slow)
            with trio.fail_after(FLOOD_SECONDS_MAX):
                await self.talk.run(trio.Event())
            nursery.cancel_scope.cancel()
        assert self.slow is not None
        return "was cut and came back" if self.slow.counts.cuts else "was served all"

    async def _pause_slow(self) -> None:
        await self._joined.wait()
        assert self.slow is not None
        while not self.slow.subscriber.streaming:
            await self.slow.progress.wait()
        self.slow.reading = trio.Event()
        await trio.sleep(self._draw.uniform(*SLOW_SECONDS))
        self.slow.reading.set()


def narrow_sockets() -> list[tuple[int, int, int]]:
    """Options of sockets that hold little."""
    return [(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)]
