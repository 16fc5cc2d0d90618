"""The turns of requests that come at one moment: a few begin in each pass of the event loop.

A pass runs every task that can run, and nobody else is served meanwhile. When a replica has died, all of its readers
come at once: what each has to be told is soon done, but for five hundred of them one after another takes as long as
three heartbeats. So ``PASS_REQUESTS`` requests begin, and the others wait, in the order in which they came, until a
task of ours had its own turn, which is in another pass. In between there is whatever else is ready: live parts,
heartbeats, new connections.

Where nobody waits, nothing is done but to count.
"""

from __future__ import annotations

import trio

PASS_REQUESTS = 8


class Turns:
    """``run`` has to run: it says when more may begin."""

    def __init__(self) -> None:
        self._left = PASS_REQUESTS
        """So many more may begin before ``run`` has its turn."""
        self._waiting = trio.lowlevel.ParkingLot()
        self._none_left = trio.Event()

    def __repr__(self) -> str:
        return f"<Turns left={self._left} waiting={len(self._waiting)}>"

    async def next(self) -> None:
        """Until it is one's turn. At once, without a checkpoint, where nothing is to be waited for."""
        if not self._left:
            await self._waiting.park()
            return
        self._left -= 1
        if not self._left:
            self._none_left.set()

    async def run(self) -> None:
        """Let in those who wait. Runs until cancelled."""
        while True:
            await self._none_left.wait()
            self._none_left = trio.Event()
            self._left = PASS_REQUESTS - len(self._waiting.unpark(count=PASS_REQUESTS))
            if not self._left:
                self._none_left.set()
