"""The files in ``deploy/`` that stand in front of replicas, as the programs themselves understand them.

Each test puts HAProxy or nginx in front of servers that misbehave; where a program is not installed, its tests are left
out. ``scripts/chaos --proxy`` tries them in front of real replicas, and installs them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
from chaos.proxy import COMMANDS, DEPLOY, accepts, find_program
from local_ports import free_port
from web_world import World, serving

from chatcluster.config import Settings
from chatcluster.local.embedded import child

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(not find_program(name), reason=f"{name} is not installed"))
    for name in COMMANDS
]


class Upstream:
    """A replica that is ready, and answers each request as the test says: None closes the connection."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.go_on = trio.Event()
        self.address = ""

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        await trio.serve_listeners(self._serve, [listener], task_status=task_status)  # type: ignore[arg-type]

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            request = await stream.receive_some(65536)
            if b" /readyz " in request:
                await stream.send_all(ANSWER)
            elif request:
                self.requests.append(bytes(request))
                if self.answer is not None:
                    await stream.send_all(self.answer)
                if self.answer and self.answer.startswith(STREAM):
                    await self.go_on.wait()


class Served:
    """A replica that is served already."""

    def __init__(self, world: World) -> None:
        self.address = world.url.removeprefix("http://")

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()


@asynccontextmanager
async def proxied(name: str, directory: Path, *upstreams: Upstream | Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the proxy with the files in deploy/, in front of ``upstreams``."""
    program = find_program(name)
    assert program is not None
    async with trio.open_nursery() as nursery:
        for upstream in upstreams:
            await nursery.start(upstream.run)
        port = free_port()
        command = COMMANDS[name](program, directory, port, [upstream.address for upstream in upstreams])
        environment = os.environ | {"CHATCLUSTER_BIND": f"127.0.0.1:{port}"}
        log = directory / "log"
        process = child.spawn(command, log=log, death_signal=signal.SIGKILL, environment=environment)
        try:
            await accepts(process, port, log)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                yield client
        finally:
            await trio.to_thread.run_sync(partial(child.stop, process, (signal.SIGTERM, 5.0)))
        nursery.cancel_scope.cancel()


async def ask_until_tried(
    client: httpx.AsyncClient, bad: Upstream, method: str, path: str = "/api/v1/chats", **headers: str
) -> httpx.Response:
    """The answer to the request that came to ``bad``, by chance or first of all."""
    for _ in range(10):
        response = await client.request(method, path, headers=headers)
        if bad.requests:
            return response
    raise AssertionError("the proxy never asked that replica")


@pytest.mark.parametrize("name", INSTALLED)
class TestProxies:
    async def test_a_write_that_broke_off_is_not_sent_again_by_itself(self, name: str, tmp_path: Path) -> None:
        """It may have been done (P1)."""
        bad, good = Upstream(None), Upstream(ANSWER)
        async with proxied(name, tmp_path, bad, good) as client:
            response = await ask_until_tried(client, bad, "POST")
        assert response.status_code == 502
        assert len(bad.requests) == 1

    async def test_a_key_makes_no_write_repeatable_that_the_server_does_not_know_again(
        self, name: str, tmp_path: Path
    ) -> None:
        bad, good = Upstream(None), Upstream(ANSWER)
        async with proxied(name, tmp_path, bad, good) as client:
            response = await ask_until_tried(client, bad, "POST", "/api/v1/tokens", **{"Idempotency-Key": "k"})
        assert response.status_code == 502
        assert len(bad.requests) == 1

    @pytest.mark.parametrize("answer", [None, BUSY], ids=["broken off", "busy"])
    async def test_a_write_with_an_idempotency_key_is_sent_to_another_replica(
        self, name: str, answer: bytes | None, tmp_path: Path
    ) -> None:
        bad, good = Upstream(answer), Upstream(ANSWER)
        async with proxied(name, tmp_path, bad, good) as client:
            response = await ask_until_tried(client, bad, "POST", **{"Idempotency-Key": "k"})
        assert response.text == "done"
        assert b"idempotency-key: k" in good.requests[-1].lower()

    @pytest.mark.parametrize("answer", [None, BUSY], ids=["broken off", "busy"])
    async def test_what_only_reads_is_sent_to_another_replica(
        self, name: str, answer: bytes | None, tmp_path: Path
    ) -> None:
        bad, good = Upstream(answer), Upstream(ANSWER)
        async with proxied(name, tmp_path, bad, good) as client:
            response = await ask_until_tried(client, bad, "GET")
        assert response.text == "done"

    async def test_a_stream_is_neither_held_back_nor_compressed(self, name: str, tmp_path: Path) -> None:
        upstream = Upstream(STREAM + b"6\r\n: hb\n\n\r\n")
        async with proxied(name, tmp_path, upstream) as client:
            with trio.fail_after(10):
                async with client.stream("GET", "/api/v1/watch", headers={"Accept-Encoding": "gzip"}) as response:
                    assert "content-encoding" not in response.headers
                    pieces: list[bytes] = []

                    async def read_to_the_end() -> None:
                        async for piece in response.aiter_raw():
                            pieces.append(piece)
                            upstream.go_on.set()  # only now does the replica end the stream

                    with pytest.raises(httpx.RemoteProtocolError):  # P3: an abrupt end arrives as one
                        await read_to_the_end()
                    assert pieces == [b": hb\n\n"]

    @pytest.mark.parametrize(
        "path",
        ["/metrics", "/metrics/", "/%6detrics", "//metrics", "/x/../metrics", "/./metrics", "/readyz/", "//readyz"],
    )
    async def test_a_replicas_own_affairs_are_not_for_the_public(self, name: str, path: str, tmp_path: Path) -> None:
        upstream = Upstream(ANSWER)
        async with proxied(name, tmp_path, upstream) as client:
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            assert (await client.send(request)).status_code == 403
        assert upstream.requests == []


@pytest.mark.parametrize("name", INSTALLED)
async def test_the_largest_file_goes_through_both_ways_and_a_larger_one_does_not(name: str, tmp_path: Path) -> None:
    data = b"%PDF-1.7\n".ljust(Settings().sizes.file_bytes_max, b"x")
    async with serving(World()) as world, proxied(name, tmp_path, Served(world)) as client:
        client.headers["Authorization"] = f"Bearer {await world.token()}"
        with trio.fail_after(30):
            sent = await client.post("/api/v1/files", content=data, timeout=20)
            assert sent.status_code == 201, sent.text
            got = await client.get(f"/api/v1/files/{sent.json()['id']}", timeout=20)
            assert got.content == data
            assert got.headers["content-security-policy"] == "default-src 'none'; sandbox"
            refused = await client.post("/api/v1/files", content=data + b"x", timeout=20)
            assert refused.status_code == 413


@pytest.mark.parametrize("name", INSTALLED)
def test_a_stream_that_is_idle_outlives_the_heartbeats_interval(name: str) -> None:
    text = (DEPLOY / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]).read_text()
    seconds = [int(found) for found in re.findall(r"(?:timeout (?:client|server)|proxy_read_timeout) +(\d+)s", text)]
    assert seconds
    assert min(seconds) >= 3 * Settings().streaming.sse_heartbeat_seconds


@pytest.mark.parametrize("name", INSTALLED)
def test_the_files_are_valid_as_they_are(name: str) -> None:
    program = find_program(name)
    assert program is not None
    check = {
        "haproxy": [program, "-c", "-f", str(DEPLOY / "haproxy.cfg"), "-f", str(DEPLOY / "haproxy-replicas.cfg")],
        "nginx": [program, "-t", "-c", str(DEPLOY / "nginx.conf"), "-e", "stderr"],
    }[name]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
