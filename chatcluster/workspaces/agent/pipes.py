"""Two connections made one: what comes in on either goes out on the other."""

from __future__ import annotations

from contextlib import suppress

import trio

PIECE_BYTES = 64 << 10
SILENCE_SECONDS = 600.0
"""A connection without a byte either way for so long is ended."""


async def join(one: trio.SocketStream, other: trio.SocketStream) -> None:
    """Until both have ended, one of them breaks, or both are silent for too long."""
    with trio.CancelScope(deadline=trio.current_time() + SILENCE_SECONDS) as silence:
        async with trio.open_nursery() as nursery:

            async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
                try:
                    while data := await source.receive_some(PIECE_BYTES):
                        silence.deadline = trio.current_time() + SILENCE_SECONDS
                        await target.send_all(data)
                    with suppress(OSError):
                        await target.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    nursery.cancel_scope.cancel()

            nursery.start_soon(pump, one, other)
            nursery.start_soon(pump, other, one)
