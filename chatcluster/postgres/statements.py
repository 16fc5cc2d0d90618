"""A connection of asyncpg's for trio: each statement is run by the task that waits for it.

asyncpg's coroutines are asyncio's: they wait for futures. One that runs a statement waits for one future, the server's
answer, and needs nothing else of asyncio. So it is stepped here: it sends its request, and then the task that asked
waits for the connection's socket itself, gives the protocol what came, and steps the coroutine on when the future is
done. Between statements nobody reads; what was said to an idle connection, such as that it is over, is read when it is
used next (``hear``). What else asyncpg does (it connects, cancels, closes) runs in tasks of the loop
(``asyncio_loop.py``).

Some connections are **attended**: the loop reads what comes at any time, and their statements are tasks of the loop,
too. That is for those whose end has to be noticed while nobody asks them anything.

What happens on failure:

* The caller is cancelled, or its deadline passes: so is the future, at which asyncpg asks the server, on another
  connection, to cancel the statement. Who wants to use the connection again, says so with ``settle``, which waits until
  that is done. If the answer is there already, it is returned all the same, because what it says has happened.
* The connection breaks, or is ended by somebody else: the statement that waits is told at once.
* A statement that waits for something else than its answer, as asyncpg's do where one is still being cancelled,
  fails for want of an asyncio task. ``settle`` sees to it that this does not happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import trio

from chatcluster.postgres.translation import RAISED

if TYPE_CHECKING:
    import asyncpg

    from chatcluster.postgres.asyncio_loop import AsyncioLoop
    from chatcluster.postgres.connecting import Row
    from chatcluster.postgres.transport import SocketTransport

CLOSE_SECONDS_MAX = 0.5

T = TypeVar("T")


class AsyncpgConnection:
    """Made by ``connecting.connect``. Used by one task at a time, but for ``terminate``."""

    def __init__(self, loop: AsyncioLoop, driver: asyncpg.Connection, *, is_attended: bool) -> None:
        self._loop = loop
        self._driver = driver
        self._transport: SocketTransport = driver._transport
        self.pid: int = driver.get_server_pid()
        """The server's name for the session."""
        self._run = loop.run if is_attended else self._step
        if not is_attended:
            self._transport.pause_reading()

    def __repr__(self) -> str:
        return f"<AsyncpgConnection {self.pid}{', closed' if self.is_closed() else ''}>"

    @property
    def server_major(self) -> int:
        major: int = self._driver.get_server_version().major
        return major

    # statements

    async def execute(self, query: str, *args: object) -> str:
        return cast(str, await self._run(self._driver.execute(query, *args)))

    async def fetch(self, query: str, *args: object) -> Sequence[Row]:
        return cast("Sequence[Row]", await self._run(self._driver.fetch(query, *args)))

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        return cast("Row | None", await self._run(self._driver.fetchrow(query, *args)))

    async def fetchval(self, query: str, *args: object) -> Any:
        return await self._run(self._driver.fetchval(query, *args))

    async def settle(self, undo: str) -> None:
        """Execute ``undo`` after a statement that failed or was cancelled, once its cancellation has ended."""
        self._transport.resume_reading()
        try:
            await self._loop.run(self._driver.execute(undo))
        finally:
            self._transport.pause_reading()

    def hear(self) -> None:
        """Read what came while nobody did. The connection may be closed after that."""
        self._loop.call(self._transport.read)

    # the end

    def is_closed(self) -> bool:
        closed: bool = self._driver.is_closed()
        return closed

    def on_closed(self, listener: Callable[[], object]) -> None:
        """Have ``listener`` called when an attended connection is closed, whoever closes it."""
        self._driver.add_termination_listener(lambda _: listener())

    async def close(self) -> None:
        """Close in order if the server takes part in time: it then knows at once, and lets go of all locks."""
        with trio.move_on_after(CLOSE_SECONDS_MAX, shield=True):
            self._transport.resume_reading()
            with suppress(*RAISED):
                await self._loop.run(self._driver.close())
        self.terminate()

    def terminate(self) -> None:
        """End it now. A statement that waits for its answer fails."""
        self._driver.terminate()

    # a statement in the task that waits for it

    async def _step(self, statement: Coroutine[Any, Any, T]) -> T:
        interrupted: BaseException | None = None
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            while True:
                answer = self._loop.call(statement.send, None)
                try:
                    await self._wait_for(answer)
                except BaseException as error:  # noqa: BLE001 - raised when the statement has ended
                    interrupted = error
                    self._loop.call(answer.cancel)
        except StopIteration as returned:
            return cast(T, returned.value)
        except asyncio.CancelledError:
            if interrupted is None:
                raise
            raise interrupted from None
        finally:
            interrupted = None  # or it would keep this frame, which keeps it
            statement.close()

    async def _wait_for(self, answer: asyncio.Future[Any]) -> None:
        while not answer.done():
            if self._transport.is_closed:
                raise ConnectionResetError("the connection was closed")
            await self._transport.wait_readable()
            self._loop.call(self._transport.read)
