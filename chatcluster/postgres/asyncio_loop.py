"""An asyncio loop within trio, for the adapter whose driver speaks asyncio.

The loop is asyncio's own. It runs in **turns**: a turn goes on until nothing is ready, and never waits. Where asyncio
would wait, its selector ends the turn instead. Between turns one trio task waits for what that selector waits for: the
selector has a file descriptor of its own (epoll, kqueue), which is readable when any of its sockets is ready, and the
next timer is the deadline of that wait. So whatever follows from an answer that has come, up to the next request
being sent, is done in one step of one task; unless that takes longer than ``TURN_SECONDS_MAX``, as with an answer of
megabytes: then the turn ends after what is ready, and the next one follows once others were served. Of several answers
that have come, one is taken in at a time.

``run`` crosses: it starts a coroutine in a turn of its own, so that a request is on its way before anybody else is
scheduled, and parks the calling task until the coroutine is done.

What happens on failure:

* The caller of ``run`` is cancelled: so is the coroutine, and ``run`` returns when that has ended. If it ends with a
  result all the same, that is returned, because what it says has happened.
* A callback that nobody waits for raises: it is reported to ``on_stray_error``, and nothing else happens.
* A turn without an end (each callback asks for another) is cut as well, and the next one follows.

Time is trio's, so that a mocked clock is one for both worlds; but for the length of a turn, which is real.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, NoReturn, TypeVar, TypeVarTuple

import trio
from outcome import Outcome

TURN_SECONDS_MAX = 0.005
CLOSE_SECONDS = 1.0

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
OnStrayError = Callable[[str, BaseException | None], None]


@asynccontextmanager
async def open_asyncio_loop(on_stray_error: OnStrayError) -> AsyncIterator[AsyncioLoop]:
    """A loop for the length of the block. ``on_stray_error`` gets a text, and the error if there is one.

    What is still running in the end is cancelled, and what is still connected is cut.
    """
    loop = AsyncioLoop(on_stray_error)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loop.drive)
        try:
            yield loop
        except Exception as error:  # noqa: BLE001 - raised below, where the nursery does not wrap it
            failure = error
        finally:
            await loop.aclose()
    if failure is not None:
        raise failure


class AsyncioLoop:
    """Made by ``open_asyncio_loop``."""

    def __init__(self, on_stray_error: OnStrayError) -> None:
        self._selector = _Selector(self._selected)
        self._loop = _Loop(self._selector, self._asked)
        self._loop.set_exception_handler(
            lambda _, context: on_stray_error(str(context.get("message")), context.get("exception"))
        )
        self._turn_until = 0.0
        self._resume_at = math.inf
        self._turn_is_next = False
        self._pause = trio.CancelScope()
        self._driving = trio.CancelScope(shield=True)  # those who close their connections need it; ended by aclose

    def __repr__(self) -> str:
        return f"<AsyncioLoop {'closed' if self._loop.is_closed() else 'open'}>"

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asyncio's kind of coroutine to its end, and return or raise what it does."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._turn_is_next = True
            task = self._loop.create_task(work)
        except BaseException:
            work.close()
            raise
        self._turn()
        raise_cancelled: Callable[[], NoReturn] | None = None

        def abort(raising: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            nonlocal raise_cancelled
            raise_cancelled = raising
            task.cancel()
            return trio.lowlevel.Abort.FAILED

        if task.done():
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            waiting = trio.lowlevel.current_task()
            task.add_done_callback(lambda _: trio.lowlevel.reschedule(waiting))
            await trio.lowlevel.wait_task_rescheduled(abort)
        try:
            return task.result()
        except asyncio.CancelledError:
            if raise_cancelled is not None:
                raise_cancelled()
            raise

    async def drive(self) -> None:
        """Take a turn whenever a socket is ready or a timer is due; close the loop after ``aclose``."""
        with self._driving:
            while True:
                with trio.CancelScope(deadline=self._resume_at) as self._pause:
                    await trio.lowlevel.wait_readable(self._selector.fileno())
                self._turn()
        self._loop.close()

    async def aclose(self) -> None:
        """End what still runs, and then ``drive``."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self.run(_cancel_others())
        self._loop.abort_transports()
        self._turn(CLOSE_SECONDS)  # the last one: nobody goes on with what is left then
        self._driving.cancel()

    def _turn(self, seconds_max: float | None = None) -> None:
        self._turn_until = time.monotonic() + (TURN_SECONDS_MAX if seconds_max is None else seconds_max)
        self._loop.run_forever()  # until the turn is ended
        self._turn_is_next = False
        self._pause.deadline = self._resume_at

    def _asked(self) -> None:
        """There is something left to do: asked for within a turn, or by somebody outside, who cancels for example."""
        if self._loop.is_running():
            if time.monotonic() >= self._turn_until:
                self._end_turn(0)
        elif not self._turn_is_next:
            self._pause.cancel()

    def _selected(self, idle_seconds: float) -> None:
        """Nothing is ready for ``idle_seconds``, or something is for 0."""
        if idle_seconds or time.monotonic() >= self._turn_until:
            self._end_turn(idle_seconds)

    def _end_turn(self, idle_seconds: float) -> None:
        self._resume_at = trio.current_time() + idle_seconds
        self._loop.stop()


class _Selector(selectors.DefaultSelector):
    """A selector that never waits, but says for how long it should.

    Of several that are ready it names one, each in its turn: how much there is to take in shows when that is done.
    """

    def __init__(self, on_select: Callable[[float], None]) -> None:
        super().__init__()
        self._on_select = on_select
        self._named = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self._on_select(0.0 if ready else math.inf if timeout is None else max(0.0, timeout))
        if len(ready) < 2:
            return ready
        self._named += 1
        return [ready[self._named % len(ready)]]


class _Loop(asyncio.SelectorEventLoop):
    _transports: Mapping[int, asyncio.Transport]
    """asyncio's own: those that have a socket, by its file descriptor."""

    def __init__(self, selector: selectors.BaseSelector, on_asked: Callable[[], None]) -> None:
        self._on_asked = on_asked
        super().__init__(selector)

    def time(self) -> float:
        return trio.current_time()

    def abort_transports(self) -> None:
        """Let go of the sockets that their owners had no time to close."""
        for transport in tuple(self._transports.values()):
            transport.abort()

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        self._on_asked()
        return super().call_soon(callback, *args, context=context)

    def run_in_executor(self, _: object, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run what asyncio runs in threads, which is to resolve host names, in one that nobody has to wait for."""
        future: asyncio.Future[T] = self.create_future()

        def deliver(result: Outcome[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.call_soon_threadsafe(_settle, future, result)

        trio.lowlevel.start_thread_soon(partial(function, *arguments), deliver)
        return future


def _settle(future: asyncio.Future[T], result: Outcome[T]) -> None:
    if future.done():
        return
    try:
        value = result.unwrap()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(value)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
