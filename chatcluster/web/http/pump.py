"""One task that writes what event streams have pending.

Waking every reader's task for every event would cost more than writing it. So a stream that is offered something only
says so, and this task, woken once for however many of them, lets each write all that it has by then in one go. It never
waits for a socket: a stream whose socket is full, or that has to end, wakes its own task for that (``sse.py``).

Every ``TURN_STREAMS`` streams the others get a turn, so that a chat with very many readers delays no heartbeat.
"""

from __future__ import annotations

from typing import Protocol

import trio

TURN_STREAMS = 100


class Stream(Protocol):
    def push(self) -> None:
        """Write what is pending. Never waits, never raises."""
        ...


class Pump:
    """Nothing is written before ``run`` runs."""

    def __init__(self) -> None:
        self._due: list[Stream] = []
        self._awake = trio.Event()

    def __repr__(self) -> str:
        return f"<Pump due={len(self._due)}>"

    def due(self, stream: Stream) -> None:
        """``stream`` has something to write. It says so once until it is pushed."""
        self._due.append(stream)
        self._awake.set()

    async def run(self) -> None:
        """Push what is due. Runs until cancelled."""
        while True:
            await self._awake.wait()
            self._awake = trio.Event()
            due, self._due = self._due, []
            for start in range(0, len(due), TURN_STREAMS):
                for stream in due[start : start + TURN_STREAMS]:
                    stream.push()
                await trio.lowlevel.checkpoint()
