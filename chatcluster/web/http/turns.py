"""Who begins next, where many want to at one moment: so many in a pass of the event loop.

A pass runs every task that can run, and nobody else is served meanwhile. When a replica has died, all of its readers
come at once: what each has to be told is soon done, but for five hundred of them one after another takes as long as
three heartbeats. So no more than ``PASS_REQUESTS`` requests begin in a pass, and the others wait in the order that they
came. Between two passes there is whatever else is ready: live parts, heartbeats, new connections.

Where nobody waits, nothing is done but to count.
"""

from __future__ import annotations

import trio

PASS_REQUESTS = 8


class Turns(trio.abc.Instrument):
    """``run`` has to run: those who wait are let in by it, and passes are counted while it runs."""

    def __init__(self) -> None:
        self._left = PASS_REQUESTS
        """So many more may begin in this pass."""
        self._waiting = trio.lowlevel.ParkingLot()
        self._someone_waits = trio.Event()

    def __repr__(self) -> str:
        return f"<Turns left={self._left} waiting={len(self._waiting)}>"

    async def next(self) -> None:
        """Until it is one's turn. At once, without a checkpoint, where nothing is to be waited for."""
        if self._left and not self._waiting:
            self._left -= 1
        else:
            self._someone_waits.set()
            await self._waiting.park()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's signature
        self._left = PASS_REQUESTS

    async def run(self) -> None:
        """Let in those who wait. Runs until cancelled."""
        trio.lowlevel.add_instrument(self)
        try:
            while True:
                await self._someone_waits.wait()
                self._someone_waits = trio.Event()
                while self._waiting:
                    self._waiting.unpark(count=PASS_REQUESTS)
                    await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.remove_instrument(self)
