"""Loops beside the work of a replica: nothing that one of them meets, whatever it is, ends the replica.

Each loop says itself what it does about what it knows of. This is for the rest: it is told, with its traceback, and the
loop begins anew after ``RETRY_SECONDS``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from chatcluster import telemetry

RETRY_SECONDS = 1.0


async def keep_on(run: Callable[[], Awaitable[None]]) -> None:
    """Run it until it returns, or is cancelled."""
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - that is what this is for
            telemetry.event("loop.crashed", loop=_name_of(run), error=repr(error), exc_info=error)
            await trio.sleep(RETRY_SECONDS)
        else:
            return


def _name_of(run: Callable[..., object]) -> str:
    named = getattr(run, "func", run)  # of a partial
    return str(getattr(named, "__qualname__", named))
