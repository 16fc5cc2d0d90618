"""The connections of the pool, as asyncio sees them: idle ones, new ones, and those that are waited for.

* An idle connection that turns out to be dead is passed over when the next transaction begins on it (``database.py``).
  Where one was found lost in silence, those that were idle by then are closed with it.
* The server, or the role, may allow fewer connections than the pool may have. Then a transaction waits for one of those
  that are there, the more important lanes first, and a new one is tried again after ``GROW_SECONDS``.
* There may be fewer from some moment on (``pool_share.py``): what is idle is closed then, the rest as it is given back.
* What is more important than the pool, and finds no connection left, is spared one, now or as soon as one is given
  back; but never the last.
* One that was idle for ``IDLE_SECONDS_MAX`` is closed when another one returns.
* Behind a pooler, where the server cannot be asked after a silent connection, one that was idle has to answer a probe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from chatcluster import telemetry
from chatcluster.postgres.connecting import close
from chatcluster.postgres.places import Lane
from chatcluster.postgres.silence import SilenceWatch
from chatcluster.postgres.translation import RAISED

IDLE_SECONDS_MAX = 60.0
GROW_SECONDS = 1.0
FIRST_GROW_SECONDS = 0.1
"""While there is no connection at all."""
PROBE_AFTER_SECONDS = 2.0
PROBE_SECONDS_MAX = 1.0


class Idle(NamedTuple):
    connection: asyncpg.Connection
    since: float


class Connections:
    """Each is idle or in use; in use it is watched for silence."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection]],
        silence: SilenceWatch | None,
        *,
        size: int,
        wait_seconds_max: float,
    ) -> None:
        """Without ``silence`` connections are probed. No more than ``size`` are in use at a time, as callers see to."""
        self._connect = connect
        self._silence = silence
        self._size = size
        self._wait_seconds_max = wait_seconds_max
        self._idle: list[Idle] = []
        self._in_use = 0
        self._full_until = 0.0
        self._one_to_spare = False
        self._wanted: tuple[deque[asyncio.Future[asyncpg.Connection]], ...] = tuple(deque() for _ in Lane)

    @property
    def idle(self) -> int:
        return len(self._idle)

    async def take(self, lane: Lane) -> tuple[asyncpg.Connection, bool]:
        """A connection for the caller alone, and whether it is new."""
        connection, is_new = await self._any(lane)
        self._in_use += 1
        if self._silence is not None:
            self._silence.begin(connection)
        return connection, is_new

    def give_back(self, connection: asyncpg.Connection) -> None:
        """Nothing is open on it."""
        self._end_use(connection)
        if self._one_to_spare and self._count:
            self._spare(connection)
            return
        self._offer(connection)
        self._close_surplus()
        self._close_oldest()

    def discard(self, connection: asyncpg.Connection) -> None:
        """Close it at once, and never use it again."""
        self._end_use(connection)
        connection.terminate()

    def drop_idle(self, before: float) -> None:
        """Close those that nothing was heard of since then."""
        kept = [idle for idle in self._idle if idle.since > before]
        for idle in self._idle:
            if idle not in kept:
                idle.connection.terminate()
        self._idle = kept

    def resize(self, size: int) -> None:
        """Have no more than so many from now on."""
        self._size = size
        self._close_surplus()

    def spare(self) -> None:
        """Close one for a connection that is more important: an idle one, or the next that is given back."""
        self._one_to_spare = True
        if self._idle and self._count > 1:
            self._spare(self._idle.pop(0).connection)

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        await asyncio.gather(*(close(connection) for connection, _ in idle))

    async def _any(self, lane: Lane) -> tuple[asyncpg.Connection, bool]:
        now = asyncio.get_running_loop().time
        give_up_at = now() + self._wait_seconds_max
        while True:
            idle = await self._next_idle()
            if idle is not None:
                return idle, False
            if now() >= self._full_until:
                try:
                    return await self._connect(), True
                except asyncpg.TooManyConnectionsError as error:
                    if now() >= give_up_at:
                        raise
                    self._full_until = now() + (GROW_SECONDS if self._in_use else FIRST_GROW_SECONDS)
                    telemetry.event("postgres.full", in_use=self._in_use, error=str(error))
            returned = await self._returned(lane, self._full_until - now())
            if returned is not None:
                return returned, False

    async def _next_idle(self) -> asyncpg.Connection | None:
        """The one that was used last."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_closed():
                continue
            if self._silence is None and now - since > PROBE_AFTER_SECONDS and not await _answers(connection):
                self.drop_idle(since)
                continue
            return connection
        return None

    async def _returned(self, lane: Lane, seconds_max: float) -> asyncpg.Connection | None:
        """The next one that is given back; None if there is none in time."""
        future: asyncio.Future[asyncpg.Connection] = asyncio.get_running_loop().create_future()
        self._wanted[lane].append(future)
        try:
            async with asyncio.timeout(seconds_max):
                return await future
        except BaseException as error:
            with suppress(ValueError):  # it was offered one, and is out of the queue
                self._wanted[lane].remove(future)
            if not future.cancelled():
                self._offer(future.result())
            if not isinstance(error, TimeoutError):
                raise
        return None

    def _offer(self, connection: asyncpg.Connection) -> None:
        """Offer the connection to the most important that wait, and of those to the one that waits longest."""
        for wanted in reversed(self._wanted):
            while wanted:
                future = wanted.popleft()
                if not future.done():
                    future.set_result(connection)
                    return
        self._idle.append(Idle(connection, asyncio.get_running_loop().time()))

    def _end_use(self, connection: asyncpg.Connection) -> None:
        self._in_use -= 1
        if self._silence is not None:
            self._silence.end(connection)

    @property
    def _count(self) -> int:
        """Without those that are on their way: to us from the server, or to those who wait."""
        return len(self._idle) + self._in_use

    def _spare(self, connection: asyncpg.Connection) -> None:
        """Close it, and leave what it makes room for to somebody else."""
        self._one_to_spare = False
        self._full_until = asyncio.get_running_loop().time() + GROW_SECONDS
        connection.terminate()

    def _close_surplus(self) -> None:
        while self._idle and self._count > self._size:
            self._idle.pop(0).connection.terminate()

    def _close_oldest(self) -> None:
        too_old = asyncio.get_running_loop().time() - IDLE_SECONDS_MAX
        if self._idle and self._idle[0].since < too_old:
            self._idle.pop(0).connection.terminate()


async def _answers(connection: asyncpg.Connection) -> bool:
    """Whether it does in time; if not, it is closed."""
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            await connection.execute("SELECT")
    except BaseException as error:
        connection.terminate()
        if not isinstance(error, RAISED):
            raise
        return False
    return True
