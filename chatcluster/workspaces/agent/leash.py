"""The leash of an agent whose sandbox would outlive the program that made it.

That program holds a connection open: ``POST /leash``, which is never answered. When the last one is closed, however
that came, and none is opened within ``GRACE_SECONDS``, the agent ends what runs, and itself. The kernel closes the
connections of a process that dies, and tells those over a network within seconds when the other machine is gone.
"""

from __future__ import annotations

import trio

FIRST_SECONDS = 30.0
"""So long after its start the agent waits until somebody holds its leash."""
GRACE_SECONDS = 1.0
RECEIVE_BYTES = 1024


class Leash:
    def __init__(self) -> None:
        self._holders = 0
        self._changed = trio.Event()

    async def hold(self, stream: trio.SocketStream) -> None:
        """Until the other side is gone."""
        self._change(1)
        try:
            while await stream.receive_some(RECEIVE_BYTES):
                pass
        except trio.BrokenResourceError:
            return
        finally:
            self._change(-1)

    async def let_go(self) -> None:
        """Return once nobody holds it, and has not for long enough."""
        seconds = FIRST_SECONDS
        while True:
            with trio.move_on_after(seconds):
                while not self._holders:
                    await self._changed.wait()
            if not self._holders:
                return
            while self._holders:
                await self._changed.wait()
            seconds = GRACE_SECONDS

    def _change(self, by: int) -> None:
        self._holders += by
        self._changed.set()
        self._changed = trio.Event()
