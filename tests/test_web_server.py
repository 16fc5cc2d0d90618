"""The server's connections, over real sockets: how they end, and that nobody can hold one for ever."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from litestar.types import ASGIApp, Receive, Scope, Send
from web_world import (
    OPENING,
    World,
    client_of,
    connect,
    error_code,
    loopback,
    read_until,
    serving,
    url_of,
    watching,
)

from chatcluster.subscriber import Cut
from chatcluster.web.http import boundary
from chatcluster.web.http.server import Server


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    while piece := await stream.receive_some(65536):
        data += piece
    return data


async def exchange(url: str, request: bytes) -> bytes:
    """Everything that the server says to ``request`` until it closes the connection."""
    async with await connect(url) as stream:
        await stream.send_all(request)
        with trio.fail_after(60):
            return await read_all(stream)


async def until_no_connection(server: Server) -> None:
    with trio.fail_after(60):
        while "0 connections" not in repr(server):
            await trio.testing.wait_all_tasks_blocked(0.005)


@asynccontextmanager
async def serving_app(
    app: ASGIApp, *, send_stall_seconds: float = 5, reader_bytes_per_second_min: float = 2048
) -> AsyncIterator[tuple[Server, str]]:
    """An application of the test's own on the server."""
    server = Server(app, send_stall_seconds=send_stall_seconds, reader_bytes_per_second_min=reader_bytes_per_second_min)
    sock = loopback()
    url = url_of(sock)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, [sock])
        yield server, url
        nursery.cancel_scope.cancel()


class TestReaders:
    async def test_one_that_takes_nothing_is_cut_within_the_stall_limit(self) -> None:
        """A slow reader holds neither memory nor a task for ever; it resumes at its cursor (P3)."""
        world = World(send_stall_seconds=0.2)
        async with serving(world), watching(world) as stream:
            reader = await world.watches.next_reader()
            with trio.fail_after(60):
                while not reader.left.is_set():
                    with trio.move_on_after(0.01):
                        await reader.events.send(b"data: " + b"x" * 100_000 + b"\n\n")
            await until_no_connection(world.server)
            with pytest.raises(trio.BrokenResourceError):
                await read_all(stream)

    @pytest.mark.parametrize(("rate", "is_cut"), [(1_000_000, True), (1000, False)])
    async def test_p10_one_that_reads_too_slowly_is_cut_though_it_never_stalls(
        self, rate: int, is_cut: bool, mock_clock: trio.testing.MockClock
    ) -> None:
        """Nobody holds megabytes for ever by reading a few bytes a second."""
        clock = mock_clock
        world = World(send_stall_seconds=10, reader_bytes_per_second_min=rate)
        async with serving(world), watching(world) as stream:
            reader = await world.watches.next_reader()
            await reader.events.send(b"data: " + b"x" * (4 << 20) + b"\n\n")
            for _ in range(20):
                await trio.testing.wait_all_tasks_blocked(0.005)
                clock.jump(1)
                with suppress(trio.BrokenResourceError):
                    await stream.receive_some(20_000)
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert reader.left.is_set() == is_cut

    async def test_one_that_reads_gets_every_byte_of_a_large_event(self) -> None:
        world = World(send_stall_seconds=30)
        async with serving(world), watching(world) as stream:
            reader = await world.watches.next_reader()
            await reader.events.send(b"data: " + b"y" * 700_000 + b"\n\n")
            with trio.fail_after(60):
                data = await read_until(stream, b"y\n\n")
            assert data.count(b"y") == 700_000

    async def test_leaving_is_noticed_without_another_byte_being_sent(self) -> None:
        world = World()
        async with serving(world), watching(world) as stream:
            reader = await world.watches.next_reader()
            await stream.aclose()
            with trio.fail_after(60):
                await reader.left.wait()
            await until_no_connection(world.server)

    async def test_one_whom_the_feed_cuts_sees_a_broken_body_and_never_a_clean_end(self) -> None:
        world = World()
        async with client_of(world) as client, client.stream("GET", "/api/v1/watch") as response:
            chunks = response.aiter_bytes()
            assert await anext(chunks) == OPENING
            reader = await world.watches.next_reader()
            await reader.events.send(Cut("slow"))
            with trio.fail_after(60), pytest.raises(httpx.RemoteProtocolError):
                await anext(chunks)

    async def test_on_http_1_0_being_cut_is_a_reset_because_closing_would_look_like_the_end(self) -> None:
        world = World()
        async with serving(world), watching(world, version="1.0") as stream:
            reader = await world.watches.next_reader()
            await reader.events.send(Cut("slow"))
            with trio.fail_after(60), pytest.raises(trio.BrokenResourceError):
                await read_all(stream)

    async def test_with_connection_close_being_cut_closes_the_connection_without_the_last_chunk(self) -> None:
        world = World()
        async with serving(world), watching(world, headers="Connection: close\r\n") as stream:
            reader = await world.watches.next_reader()
            await reader.events.send(Cut("slow"))
            with trio.fail_after(60):
                assert b"0\r\n\r\n" not in await read_all(stream)


class TestCut:
    """Drain: the public port first, readers after the runners are done (P6)."""

    async def test_draining_leaves_the_public_port_to_others_and_keeps_serving_on_its_own(self) -> None:
        world = World()
        async with serving(world), world.client(None) as client, watching(world, public=True) as stream:
            world.health.draining = True
            world.server.stop_accepting()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{world.public_url}/livez")
            response = await client.get("/readyz")
            assert (response.status_code, response.json()["status"]) == (503, "draining")
            assert response.headers["connection"] == "close"
            reader = await world.watches.next_reader()
            await reader.events.send(b"data: still here\n\n")
            with trio.fail_after(60):
                await read_until(stream, b"still here")

    async def test_a_cut_breaks_streams_off_and_closes_idle_connections_at_once(self) -> None:
        world = World()
        async with serving(world), world.client(None) as idle, watching(world) as stream:
            await idle.get("/livez")
            reader = await world.watches.next_reader()
            world.server.cut()
            with trio.fail_after(60):
                assert b"0\r\n\r\n" not in await read_all(stream)
                await reader.left.wait()
            await until_no_connection(world.server)

    async def test_a_cut_lets_a_request_under_way_be_answered_and_then_run_returns(self) -> None:
        """P1: what was accepted is answered."""
        arrived, go_on = trio.Event(), trio.Event()

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            arrived.set()
            await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok", "more_body": False})

        answers: list[str] = []

        async def ask(url: str) -> None:
            async with httpx.AsyncClient() as client:
                answers.append((await client.get(url)).text)

        server, sock = Server(app, send_stall_seconds=5, reader_bytes_per_second_min=2048), loopback()
        with trio.fail_after(60):
            async with trio.open_nursery() as asking, trio.open_nursery() as nursery:
                await nursery.start(server.run, [sock])
                asking.start_soon(ask, url_of(sock))
                await arrived.wait()
                server.cut()
                await trio.testing.wait_all_tasks_blocked()
                go_on.set()
        assert answers == ["ok"]

    async def test_after_a_cut_an_idle_connection_is_good_for_one_more_request_for_a_while(self) -> None:
        """A proxy that sends a request on it before it finds the port closed gets an answer (P6)."""
        world = World()
        async with serving(world), await connect(world.url) as stream:
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            await read_until(stream, b"alive")
            world.server.cut(idle_seconds=100)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="failed"):
                await connect(world.url)
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            with trio.fail_after(60):
                assert b"alive" in await read_all(stream), "and then it is closed"

    async def test_whom_the_kernel_has_connected_but_cannot_hand_over_costs_nobody_else_his_answer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """P6: as when the process has no file descriptor left."""

        def accept(_: socket.socket) -> None:
            raise OSError(errno.EMFILE, "too many open files")

        world = World()
        async with serving(world), await connect(world.url) as stream:
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            await read_until(stream, b"alive")
            monkeypatch.setattr(socket.socket, "accept", accept)
            world.server.cut(idle_seconds=100)
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            with trio.fail_after(60):
                assert b"alive" in await read_all(stream)

    async def test_whom_there_was_no_descriptor_for_is_answered_once_there_is_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accept, refused = socket.socket.accept, trio.Event()

        def once_refused(port: socket.socket) -> object:
            if not refused.is_set():
                refused.set()
                raise OSError(errno.EMFILE, "too many open files")
            return accept(port)

        monkeypatch.setattr(socket.socket, "accept", once_refused)
        world = World()
        async with serving(world), await connect(world.url) as stream:
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            with trio.fail_after(60):
                await read_until(stream, b"alive")
        assert refused.is_set()

    async def test_whom_the_kernel_has_connected_before_the_cut_is_answered(self) -> None:
        """Closing the port on them would reset what they have sent (P6)."""
        world = World()
        async with serving(world):
            host, _, port = world.url.removeprefix("http://").rpartition(":")
            with socket.create_connection((host, int(port)), timeout=60) as waiting:
                waiting.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
                world.server.cut()
                waiting.setblocking(False)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(waiting)) as stream:
                    with trio.fail_after(60):
                        assert b"alive" in await read_all(stream)

    async def test_a_request_that_is_never_done_does_not_keep_the_server_from_ending(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        arrived = trio.Event()

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            arrived.set()
            await trio.sleep_forever()

        server, sock = Server(app, send_stall_seconds=5, reader_bytes_per_second_min=2048), loopback()
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run, [sock])
            async with await connect(url_of(sock)) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await arrived.wait()
                server.cut()
                assert await stream.receive_some() == b""
        assert "0 connections" in repr(server)


class TestBodies:
    async def test_an_announced_size_above_the_limit_is_refused_before_anything_is_read(self) -> None:
        world = World(body_bytes_max=1024)
        async with serving(world):
            head = f"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await world.token()}\r\n"
            said = await exchange(world.url, head.encode() + b"Content-Length: 99999999999\r\n\r\n{")
            assert said.startswith(b"HTTP/1.1 413 ")
            assert b'"request_too_large"' in said
            await until_no_connection(world.server)

    async def test_an_endless_chunked_body_is_refused_at_the_limit_and_its_sender_gets_to_know(self) -> None:
        world = World(body_bytes_max=1024)
        async with serving(world):
            head = f"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await world.token()}\r\n"
            chunks = (b"1000\r\n" + b" " * 4096 + b"\r\n") * 40
            said = await exchange(world.url, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            assert said.startswith(b"HTTP/1.1 413 ")
            await until_no_connection(world.server)

    async def test_a_large_body_behind_an_early_refusal_does_not_hold_the_connection(self) -> None:
        """Answered before the body is read, here for want of a token: nobody reads it, and nothing waits for that."""
        world = World()
        async with serving(world), world.client(None) as client:
            response = await client.post("/api/v1/chats", content=b"x" * 1_000_000)
            assert response.status_code == 401
            await until_no_connection(world.server)

    async def test_an_answer_before_the_end_of_the_body_says_that_it_ends_the_connection(self) -> None:
        """A client that keeps connections would send its next request on one that is about to be closed."""
        world = World(body_bytes_max=1024)
        async with serving(world), world.client(await world.token()) as client:
            for _ in range(5):
                refused = await client.post("/api/v1/chats", content=b"x" * 1_000_000)
                assert (refused.status_code, refused.headers["connection"]) == (413, "close")
                answered = await client.get("/api/v1/me")
                assert answered.status_code == 200
                assert "connection" not in answered.headers

    async def test_one_that_does_not_arrive_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(boundary, "BODY_SECONDS_MAX", 0.05)
        world = World()
        async with serving(world):
            head = f"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await world.token()}\r\n"
            said = await exchange(world.url, head.encode() + b"Content-Length: 10\r\n\r\n{")
            assert said.startswith(b"HTTP/1.1 408 ")

    async def test_one_whose_sender_leaves_is_no_error_of_ours(self) -> None:
        world = World()
        async with serving(world):
            stream = await connect(world.url)
            head = f"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await world.token()}\r\n"
            await stream.send_all(head.encode() + b"Content-Length: 10\r\n\r\n{")
            await trio.testing.wait_all_tasks_blocked()
            await stream.aclose()
            await until_no_connection(world.server)
            assert b'chatcluster_crashes_total{where="http"}' not in world.metrics.render()
            assert not world.database.chats


class TestProtocol:
    async def test_what_is_not_http_gets_an_error_of_our_form(self) -> None:
        world = World()
        async with serving(world):
            said = await exchange(world.url, b"\x16\x03\x01 not http\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 400 ")
            assert b'"code":"invalid_request"' in said

    async def test_too_large_a_head_is_refused(self) -> None:
        world = World()
        async with serving(world):
            said = await exchange(world.url, b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 431 ")

    async def test_requests_in_a_row_on_one_connection_are_answered_in_order(self) -> None:
        world = World()
        async with serving(world):
            asked = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
            last = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            said = await exchange(world.url, asked + asked + last)
            assert said.count(b"HTTP/1.1 200 ") == 2
            assert said.count(b"HTTP/1.1 404 ") == 1
            assert said.rindex(b" 200 ") < said.index(b" 404 ")

    async def test_http_1_0_is_answered_and_closed(self) -> None:
        world = World()
        async with serving(world):
            said = await exchange(world.url, b"GET /livez HTTP/1.0\r\n\r\n")
            assert said.endswith(b'{"status":"alive"}')

    async def test_an_upgrade_to_http_2_is_ignored(self) -> None:
        world = World()
        async with serving(world):
            upgrade = b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
            said = await exchange(world.url, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
            assert said.startswith(b"HTTP/1.1 200 ")

    async def test_the_preface_of_http_2_gets_an_answer_in_http_1(self) -> None:
        world = World()
        async with serving(world):
            said = await exchange(world.url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 4")

    async def test_a_websocket_is_refused(self) -> None:
        world = World()
        async with serving(world):
            upgrade = (
                b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            )
            said = await exchange(world.url, b"GET /api/v1/watch HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
            assert said.startswith(b"HTTP/1.1 4")
            await until_no_connection(world.server)

    async def test_an_idle_connection_is_closed_in_the_end(self, autojump_clock: trio.testing.MockClock) -> None:
        world = World()
        async with serving(world), await connect(world.url) as stream:
            assert await stream.receive_some() == b""

    async def test_an_application_that_fails_harms_no_other_connection(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError("a bug")

        async with serving_app(app) as (server, url):
            for _ in range(2):
                with pytest.raises(httpx.RemoteProtocolError):
                    async with httpx.AsyncClient() as client:
                        await client.get(url)
            await until_no_connection(server)


async def test_every_answer_names_the_request_and_takes_the_callers_name_for_it() -> None:
    async with client_of(World()) as client:
        given = await client.get("/livez", headers={"X-Request-Id": "from-the-caller:1"})
        assert given.headers["x-request-id"] == "from-the-caller:1"
        strange = await client.get("/nowhere", headers={"X-Request-Id": "with blanks"})
        assert error_code(strange) == "not_found"
        assert strange.headers["x-request-id"] not in ("", "with blanks")
        assert "server" not in strange.headers


async def test_no_request_is_served_with_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread costs a switch there and back, and waits for the interpreter's lock while the loop is busy."""
    used: list[object] = []

    async def run_sync(function: Callable[..., Any], *args: Any, **_: Any) -> Any:
        used.append(function)
        return function(*args)

    async with client_of(World(), admin=True) as client:
        monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)
        for path in ("/livez", "/api/v1/me", "/api/v1/chats?limit=1", "/api/v1/replicas"):
            assert (await client.get(path)).status_code == 200
    assert used == []
