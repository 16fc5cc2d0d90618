"""What lies between a replica and a server: nothing, unless a simulation puts something there.

Each operation of an adapter runs inside ``crossing``. Before the block is the way there, after it the way
back: a subclass that raises ``StoreUnavailable`` or ``StreamsUnavailable`` before the ``yield`` has lost the
request, one that raises after it has lost the answer to a request that took effect.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio


class Link:
    def crossing(self, operation: str) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 (for those that override it)
        """The way to the server and back; ``operation`` is the name of the port's method."""
        return _straight()


@asynccontextmanager
async def _straight() -> AsyncIterator[None]:
    await trio.lowlevel.checkpoint()
    yield
