"""What the fakes of container engines have in common: HTTP, and containers that are agents, processes of this machine.

A fake answers as the engine's documentation says, refuses what the engine would refuse, and fields that it does not
know as well: a real one would pass over those, and a limit with them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import msgspec
import trio

Json = dict[str, Any]


class Asked(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    body: Json
    authorization: str


class Answered(NamedTuple):
    status: int
    body: Json | list[Any] | bytes = b""


Answerer = Callable[[Asked], Awaitable[Answered]]


async def serve(stream: trio.abc.Stream, answer: Answerer) -> None:
    """One connection."""
    connection = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while (asked := await _received(connection, stream)) is not None:
                status, body = await answer(asked)
                content = body if isinstance(body, bytes) else msgspec.json.encode(body)
                headers = [] if status in (204, 304) else [("content-length", str(len(content)))]
                data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
                data += connection.send(h11.Data(content if headers else b"")) or b""
                await stream.send_all(data + (connection.send(h11.EndOfMessage()) or b""))
                connection.start_next_cycle()
        except (trio.BrokenResourceError, h11.ProtocolError):
            return


async def _received(connection: h11.Connection, stream: trio.abc.Stream) -> Asked | None:
    head: h11.Request | None = None
    body = b""
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65536)))
            case h11.Request() as begun:
                head = begun
            case h11.Data(data=data):
                body += bytes(data)
            case h11.EndOfMessage():
                assert head is not None
                parts = urlsplit(head.target.decode())
                given = dict(head.headers).get(b"authorization", b"").decode()
                content = msgspec.json.decode(body) if body else {}
                return Asked(head.method.decode(), unquote(parts.path), dict(parse_qsl(parts.query)), content, given)
            case _:
                return None


def only(known: Mapping[str, type | tuple[type, ...]], given: Mapping[str, Any], where: str) -> None:
    """Raises ``AssertionError`` for a field that the engine does not have, or has with another type."""
    for name, value in given.items():
        assert name in known, f"{where} has no field {name}"
        assert isinstance(value, known[name]), f"{where}.{name} is {value!r}"


class RunningContainer:
    """The agent that a container runs, with the container's directories where they are outside."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        places: Mapping[str, Path],
        log: Path,
        listen: str = "",
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *(_outside(word, places, listen) for word in command[1:] if not _is_gateway(word))],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def exit_code(self) -> int:
        """As engines tell it."""
        code = self.process.poll() or 0
        return code if code >= 0 else 128 - code

    def kill(self) -> None:
        """With all that it began, as the end of a process namespace does."""
        deadline = time.monotonic() + 10
        found = [self.process.pid, *_below(self.process.pid)]
        while found and time.monotonic() < deadline:
            for pid in found:
                _kill(pid)
            found = [pid for known in found for pid in _below(known)]
        self.process.wait()


def _is_gateway(word: str) -> bool:
    """Its port would be one of this machine's loopback here."""
    return word.startswith("--gateway=")


def _outside(word: str, places: Mapping[str, Path], listen: str) -> str:
    option, _, value = word.partition("=")
    if option in ("--state", "--home", "--work"):
        return f"{option}={places[value]}"
    return f"{option}={listen}:{value.rpartition(':')[2]}" if option in ("--listen", "--lent-gateway") else word


def _below(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(deeper for child in children for deeper in _below(child))]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
