"""A server that is a process of the sandbox: a message is a line of JSON, on its input and its output.

A line that is no JSON is passed over, as programs print; what it writes on its error output is kept in part, to be told
when it fails. It has a session of its own, and ends with all that it began.

What happens on failure: a server that ends, that does not read what it is sent for ``WRITE_SECONDS``, or that writes a
line of more than ``LINE_BYTES_MAX`` is gone: ``ServerFailed``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import trio

from chatcluster.json_mending import decoded
from chatcluster.workspaces.agent.mcp.failed import ServerFailed
from chatcluster.workspaces.agent.mcp.file import Config
from chatcluster.workspaces.agent.mcp.session import Hear, Message
from chatcluster.workspaces.agent.processes import Child, Processes

LINE_BYTES_MAX = 8 << 20
READ_BYTES = 64 << 10
WRITE_SECONDS = 10.0
LAST_WORDS_BYTES = 300
END_SECONDS_MAX = 5.0
LOOK_SECONDS = 0.5
"""The time for the end of a process that has closed its output, and for its last words."""


class Stdio:
    """``Transport``. ``number`` is that of the process, for its end."""

    def __init__(self, processes: Processes, config: Config, directory: bytes, number: int) -> None:
        self._processes = processes
        self._config = config
        self._directory = directory
        self._number = number
        self._input: trio.lowlevel.FdStream | None = None
        self._writing = trio.Lock()
        self._words = b""

    def agreed(self, protocol: str) -> None:
        """The version of the protocol makes no difference here."""

    async def run(self, hear: Hear, is_there: trio.Event) -> None:
        (reads, theirs), (ours, writes), (last, says) = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
        self._input, output, errors = (trio.lowlevel.FdStream(one) for one in (theirs, ours, last))
        async with self._input, output, errors:
            with _closing(reads, writes, says):
                child = self._begin(reads, writes, says)
            trouble = ""
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hear_words, errors)
                    nursery.start_soon(_give_up_after, child, nursery.cancel_scope)
                    is_there.set()
                    trouble = await _hear_lines(output, hear)
                    with trio.move_on_after(LOOK_SECONDS):
                        await child.ended.wait()
                    nursery.cancel_scope.cancel()
            finally:
                with trio.move_on_after(END_SECONDS_MAX, shield=True):
                    await self._processes.end(self._number)
        raise ServerFailed(trouble or self._ended(child))

    async def send(self, message: Message, answered: trio.Event | None = None) -> None:
        assert self._input is not None, "it runs before anything is sent"
        line = msgspec.json.encode(message) + b"\n"
        async with self._writing:
            with trio.move_on_after(WRITE_SECONDS, shield=True) as writing:  # half a line would be the next one's
                try:
                    await self._input.send_all(line)
                except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._ending(answered)
            if writing.cancelled_caught:
                await self._processes.end(self._number)
                raise ServerFailed(f"it did not read what it was sent for {WRITE_SECONDS:g} s")
        if answered is not None:
            await answered.wait()

    async def _ending(self, answered: trio.Event | None) -> None:
        """Nothing can be sent any more: a server that ends has last words."""
        with trio.move_on_after(END_SECONDS_MAX):
            if answered is not None:
                await answered.wait()
                return
        raise ServerFailed("it takes nothing any more")

    def _begin(self, reads: int, writes: int, says: int) -> Child:
        try:
            return self._processes.begin(
                self._config.argv,
                directory=self._directory,
                environment={**os.environ, **dict(self._config.environment)},
                call=self._number,
                reads=reads,
                output=writes,
                errors=says,
            )
        except (OSError, ValueError) as error:
            raise ServerFailed(f"it cannot be begun: {error}") from None

    async def _hear_words(self, errors: trio.lowlevel.FdStream) -> None:
        while data := await errors.receive_some(READ_BYTES):
            self._words = (self._words + data)[-LAST_WORDS_BYTES:]

    def _ended(self, child: Child) -> str:
        words = " ".join(self._words.decode("utf-8", "replace").split())
        how = "it closed its output" if not child.ended.is_set() else f"it ended ({_status(child)})"
        return f"{how}: {words}" if words else how


async def _hear_lines(output: trio.lowlevel.FdStream, hear: Hear) -> str:
    """Until there are no more; or what is wrong with them."""
    begun = bytearray()
    while data := await output.receive_some(READ_BYTES):
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0], begun = bytes(begun) + whole[0], bytearray()
        begun += rest
        if len(begun) > LINE_BYTES_MAX:
            return f"it said more than {LINE_BYTES_MAX} bytes at a time"
        for line in whole:
            try:
                message = decoded(line)
            except (msgspec.MsgspecError, RecursionError):
                continue
            hear(message)
    return ""


async def _give_up_after(child: Child, listening: trio.CancelScope) -> None:
    """What it has left behind may keep its output open."""
    await child.ended.wait()
    await trio.sleep(LOOK_SECONDS)
    listening.cancel()


@contextmanager
def _closing(*descriptors: int) -> Iterator[None]:
    """The ends of the pipes that are the process's: closed here once it has them."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _status(child: Child) -> str:
    return f"signal {child.signal}" if child.signal is not None else f"exit code {child.exit_code}"
