"""Ctrl-C and SIGTERM end a run of chaos or of the bench in good order: what it has started is stopped."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")

EXIT_INTERRUPTED = 130


async def until_interrupted(run: Callable[[], Awaitable[T]], say: Callable[[str], None]) -> T | None:
    """The result of ``run``, or None if the user has had enough."""
    result: T | None = None
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                async for _ in signals:
                    say("stopping")
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            result = await run()
            nursery.cancel_scope.cancel()
    return result
