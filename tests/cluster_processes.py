"""A cluster of real processes for tests: replicas on their private ports, a simulated model, real servers.

Replicas are started by hand rather than by the supervisor, so that one that was killed stays dead.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import asyncpg
import h11
import httpx
import msgspec
import trio
from forked_processes import fork

from chatcluster.client import Client
from chatcluster.client.chat_view import ChatView
from chatcluster.config import Settings
from chatcluster.local.embedded import child
from chatcluster.local.provisioning import create_token

WAIT_SECONDS = 180.0
"""A state that is waited for comes, however slow the machine: this bounds a failure, and promises nothing."""
Json = dict[str, Any]


class Process:
    """A ``chatcluster`` command that says on a pipe when it is ready.

    Forked off one that has imported everything, or ``anew``: started as users start it, with a memory of its own.
    """

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], log: Path, *, anew: bool = False
    ) -> None:
        self.name = name
        self.ready: list[Json] = []
        read_fd, write_fd = os.pipe()
        self._pipe = trio.lowlevel.FdStream(read_fd)
        start = _start_anew if anew else fork
        self.process = start(command, log=log, environment=environment, ready_fd=write_fd)
        os.close(write_fd)

    @property
    def worker_id(self) -> str:
        """Of the incarnation that was announced last."""
        return str(self.ready[-1]["worker_id"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ready[-1]['port']}"

    async def next_ready(self) -> Json:
        """Wait for the next line on the ready pipe."""
        with trio.fail_after(WAIT_SECONDS):
            data = await self._pipe.receive_some()
        assert data, f"{self.name} died before it was ready"
        self.ready.extend(msgspec.json.decode(line) for line in data.splitlines())
        return self.ready[-1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        with trio.fail_after(WAIT_SECONDS):
            return await trio.to_thread.run_sync(self.process.wait)

    async def aclose(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        await trio.to_thread.run_sync(self.process.wait)
        await self._pipe.aclose()


def _start_anew(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str], ready_fd: int
) -> subprocess.Popen[bytes]:
    return child.spawn(
        [sys.executable, "-m", "chatcluster", *command, "--ready-fd", str(ready_fd)],
        log=log,
        death_signal=signal.SIGKILL,
        environment=environment,
        inherited_fds=(ready_fd,),
    )


class Cluster:
    """``async with Cluster(...)``: whatever was started in it has ended behind it."""

    def __init__(self, database_url: str, redis_url: str, directory: Path, *, anew: bool = False) -> None:
        self.replicas: list[Process] = []
        self.token = ""
        self.simulator_url = ""
        self._environment = dict(os.environ) | {
            "CHATCLUSTER_DATABASE_URL": database_url,
            "CHATCLUSTER_REDIS_URL": redis_url,
            "CHATCLUSTER_LLM_API_KEY": "simulated",
            "CHATCLUSTER_LLM_MODEL": "simulated",
            "CHATCLUSTER_TITLES": "false",
        }
        self._database_url = database_url
        self._directory = directory
        self._anew = anew
        self._processes: list[Process] = []

    async def start(self, replicas: int, *, simulator: Sequence[str] = (), **settings: object) -> Self:
        """``simulator``: options of the simulated model."""
        self._model = self._spawn("simulator", ["simulate-llm", "--port", "0", *simulator], {})
        port = (await self._model.next_ready())["port"]
        self.simulator_url = f"http://127.0.0.1:{port}"
        self._environment["CHATCLUSTER_LLM_BASE_URL"] = f"{self.simulator_url}/v1"
        administration = Settings.of(database_url=self._database_url)
        self.token = await create_token(administration, user="tester", admin=True, name="tests")
        for _ in range(replicas):
            self.add(**settings)
        for replica in self.replicas:
            await replica.next_ready()
        return self

    def add(self, **settings: object) -> Process:
        """One more replica; ``next_ready`` tells when it is there."""
        name = f"replica-{len(self.replicas) + 1}"
        replica = self._spawn(name, ["serve", "--port", "0", "--name", name], settings)
        self.replicas.append(replica)
        return replica

    def _spawn(self, name: str, command: list[str], settings: dict[str, object]) -> Process:
        own = {f"CHATCLUSTER_{key.upper()}": str(value) for key, value in settings.items()}
        log = self._directory / f"{name}.log"
        process = Process(name, command, self._environment | own, log, anew=self._anew)
        self._processes.append(process)
        return process

    @contextmanager
    def silent_model(self) -> Iterator[None]:
        """Nothing is answered by the simulated model meanwhile, which then goes on."""
        self._model.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._model.send(signal.SIGCONT)

    @property
    def model_url(self) -> str:
        return self._environment["CHATCLUSTER_LLM_BASE_URL"]

    def owner_of(self, chat: Json) -> Process:
        return next(replica for replica in self.replicas if replica.worker_id == chat["worker_id"])

    def others(self, replica: Process) -> list[Process]:
        return [other for other in self.replicas if other is not replica and other.process.poll() is None]

    @asynccontextmanager
    async def client(self, replica: Process) -> AsyncIterator[Client]:
        async with Client(replica.url, self.token) as client:
            yield client

    async def transactions(self) -> Counter[str]:
        """Postgres transactions by name, over all replicas, as their metrics tell."""
        counts: Counter[str] = Counter()
        async with httpx.AsyncClient() as http:
            for replica in self.replicas:
                for line in (await http.get(f"{replica.url}/metrics")).text.splitlines():
                    if line.startswith("chatcluster_store_transaction_seconds_count{"):
                        labels, _, count = line.rpartition(" ")
                        counts[labels.partition('name="')[2].partition('"')[0]] += int(float(count))
        return counts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for process in self._processes:
            await process.aclose()


async def follow(
    client: Client, chat_id: str, until: Callable[[ChatView], bool], *, view: ChatView | None = None
) -> ChatView:
    """Read the chat from the beginning, or from where ``view`` is, until the view satisfies ``until``. Before it is
    ready it lacks what the chat has: a chat at rest says so before its messages come."""
    view = ChatView() if view is None else view
    if view.ready and until(view):
        return view
    with trio.fail_after(WAIT_SECONDS):
        async with aclosing(client.stream(chat_id, view.cursor or None)) as events:
            async for cursor, event in events:
                view.apply(cursor, event)
                if view.ready and until(view):
                    return view
    raise AssertionError("the stream ended")


@asynccontextmanager
async def connected(
    url: str, token: str, chat_id: str, cursor: str | None = None
) -> AsyncIterator[AsyncIterator[tuple[str, Json]]]:
    """One connection's events as ``(id, data)``, until it breaks off; nothing of it outlives the block."""
    host, port = url.removeprefix("http://").split(":")
    headers = {"Host": host, "Authorization": f"Bearer {token}"} | ({"Last-Event-ID": cursor} if cursor else {})
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        connection = h11.Connection(h11.CLIENT)
        request = h11.Request(method="GET", target=f"/api/v1/chats/{chat_id}/stream", headers=list(headers.items()))
        await stream.send_all(connection.send(request) + connection.send(h11.EndOfMessage()))
        async with aclosing(_events(connection, stream)) as events:
            yield events


async def _events(connection: h11.Connection, stream: trio.SocketStream) -> AsyncGenerator[tuple[str, Json], None]:
    pieces, event_id = [b""], ""
    while True:
        received = connection.next_event()
        if received is h11.NEED_DATA:
            data = await stream.receive_some()
            if not data:
                return  # broken off without a clean end, as every stream ends
            connection.receive_data(data)
        elif isinstance(received, h11.Response):
            assert received.status_code == 200, received
        elif isinstance(received, h11.Data):
            pieces.append(bytes(received.data))
            if b"\n" not in pieces[-1]:
                continue  # a line of megabytes is joined once
            *lines, rest = b"".join(pieces).split(b"\n")
            pieces = [rest]
            for line in lines:
                if line.startswith(b"id: "):
                    event_id = line[4:].decode()
                elif line.startswith(b"data: "):
                    yield event_id, msgspec.json.decode(line[6:])
        else:
            raise AssertionError(f"a stream never ends cleanly, but there was {received}")


async def run_sql(url: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    """Rows of a query, for looking behind the API."""

    async def run() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    return await trio.to_thread.run_sync(lambda: asyncio.run(run()))
