"""Keep one child process of the supervisor alive: start it, see it end, start it again.

A child is ``python -P -m chatcluster COMMAND… --ready-fd N``. On that pipe it writes one line of JSON when it
is ready, and one more for each new incarnation (``Ready``): what it says there goes into the command of
its successor, which so takes the same port and can declare its predecessor's worker ID dead.

* Ends on its own: started again after a wait of 0.5 s, doubling to 5 s; a child that was ready and then
  lived for 10 s starts the wait anew.
* Ends before it was ever ready: ``run`` raises ``ConfigError`` with its last words. The cluster does not
  come up half.
* Cancelled: SIGTERM, ``stop_seconds`` of patience (``kill_now`` cuts them short), SIGKILL. Nothing is left
  when ``run`` returns.
* We are killed: the kernel kills the child.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import trio

from chatcluster.backoff import Backoff
from chatcluster.errors import ConfigError
from chatcluster.local.embedded import child

READY_SECONDS_MAX = 120.0
"""On a busy machine all of them start at once, and compile what they import the first time."""
RESTART_SECONDS_MIN = 0.5
"""An interpreter that starts needs a whole core for a while. Replicas that take over its chats shall have it first."""
RESTART_SECONDS_MAX = 5.0
HEALTHY_SECONDS = 10.0
LAST_GASP_SECONDS = 2.0
READY_BYTES_MAX = 64 << 10


class Ready(msgspec.Struct, frozen=True):
    """A line on the ready pipe."""

    port: int
    worker_id: str = ""
    problem: str = ""
    """Why it is there and of no use, in one line."""


class Keeper:
    """One child and its successors. ``ready`` and ``pid`` are those of the present one."""

    def __init__(
        self,
        name: str,
        command: Callable[[Ready | None], Sequence[str]],
        *,
        environment: Mapping[str, str],
        log: Path,
        stop_seconds: float,
        say: Callable[[str], None],
        inherited_fds: Sequence[int] = (),
    ) -> None:
        """``command`` gets what the previous child said last; ``say`` gets a line for people."""
        self.name = name
        self.log = log
        self.ready: Ready | None = None
        self.pid: int | None = None
        self.was_ready = trio.Event()
        """Some child was ready, once."""
        self._command = command
        self._environment = environment
        self._stop_seconds = stop_seconds
        self._say = say
        self._inherited_fds = inherited_fds
        self._patience: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Keeper {self.name} pid {self.pid} {self.ready}>"

    def kill_now(self) -> None:
        """Have no more patience with a child that is stopping."""
        if self._patience is not None:
            self._patience.cancel()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the child alive until cancelled; ``started`` when it is ready for the first time."""
        backoff = Backoff(RESTART_SECONDS_MIN, RESTART_SECONDS_MAX)
        first = True
        while True:
            announce = trio.Event()
            status, healthy_seconds = await self._run_once(announce, task_status if first else None)
            if first and not announce.is_set():
                raise ConfigError(f"{self.name} does not start: {self._last_words(status)} (see {self.log})")
            first = False
            if not announce.is_set():
                self.ready = None  # the place of its predecessor may be what it failed at
            if healthy_seconds >= HEALTHY_SECONDS:
                backoff.reset()
            wait_seconds = backoff.next_seconds()
            self._say(f"{self.name} {_ending(status)}; starting it again in {wait_seconds:g} s")
            await trio.sleep(wait_seconds)

    async def _run_once(self, announce: trio.Event, task_status: trio.TaskStatus[None] | None) -> tuple[int, float]:
        """Run one child to its end: its exit status, and how long it was ready."""
        process, ready_pipe = self._spawn()
        self.pid = process.pid
        ready_since = trio.current_time()
        try:
            async with ready_pipe, trio.open_nursery() as nursery:
                nursery.start_soon(self._read_ready, ready_pipe, announce)
                nursery.start_soon(self._await_ready, process, announce, task_status)
                status = await _wait(process)
                nursery.cancel_scope.cancel()
        finally:
            await self._stop(process)
            self.pid = None
        return status, trio.current_time() - ready_since if announce.is_set() else 0.0

    def _spawn(self) -> tuple[subprocess.Popen[bytes], trio.lowlevel.FdStream]:
        read_fd, write_fd = os.pipe()
        ready_pipe = trio.lowlevel.FdStream(read_fd)
        try:
            command = [*self._command(self.ready), "--ready-fd", str(write_fd)]
            process = child.spawn(
                [sys.executable, "-P", "-m", "chatcluster", *command],
                log=self.log,
                death_signal=signal.SIGKILL,
                environment=self._environment,
                inherited_fds=(write_fd, *self._inherited_fds),
            )
        except OSError as error:
            ready_pipe.close()
            raise ConfigError(f"{self.name} does not start: {error}") from None
        finally:
            os.close(write_fd)
        return process, ready_pipe

    async def _read_ready(self, ready_pipe: trio.lowlevel.FdStream, announce: trio.Event) -> None:
        buffered = b""
        async for data in ready_pipe:
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                self.ready = msgspec.json.decode(line, type=Ready)
                announce.set()
                self.was_ready.set()
            buffered = buffered[-READY_BYTES_MAX:]

    async def _await_ready(
        self, process: subprocess.Popen[bytes], announce: trio.Event, task_status: trio.TaskStatus[None] | None
    ) -> None:
        """A child that does not get ready in time is as good as dead."""
        with trio.move_on_after(READY_SECONDS_MAX):
            await announce.wait()
            if task_status is not None:
                task_status.started()
            elif self.ready is not None:
                self._say(f"{self.name} is back: port {self.ready.port}, pid {process.pid}")
            return
        self._say(f"{self.name} is not ready after {READY_SECONDS_MAX:.0f} s")
        process.kill()

    async def _stop(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            return
        process.terminate()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._stop_seconds) as self._patience:
            await _wait(process)
        self._patience = None
        if process.poll() is None:
            process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_GASP_SECONDS):
                await _wait(process)

    def _last_words(self, status: int) -> str:
        words = child.last_line(self.log, "Error:") or _ending(status)
        return words.removeprefix("Error: ")


async def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end in a thread of its own, which a cancellation leaves to the child's end."""
    wait = partial(trio.to_thread.run_sync, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
    return await wait(process.wait)


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit code {status}"
