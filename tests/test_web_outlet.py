"""How events get to the socket: framed, in order, each once, whatever the socket takes (P3); and who waits for it."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any, cast

import httpx
import pytest
import trio
import trio.testing
from litestar.types import Receive, Scope, Send
from test_web_server import exchange, read_all, serving_app
from web_world import World, read_until, serving, watching

from chatcluster.parts import Cursor, Position
from chatcluster.shown import Notice
from chatcluster.subscriber import BURST_BUFFERS_MAX, LARGE_EVENTS_MAX, Cut, Subscriber
from chatcluster.web.http import departures
from chatcluster.web.http.connection import RESET_ON_CLOSE
from chatcluster.web.http.outlet import OUTLET, Outlet
from chatcluster.web.http.pump import TURN_STREAMS, Pump
from chatcluster.web.http.sse import HEARTBEATS_SPREAD

HEARTBEAT = b": hb\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def outlet_in(scope: Scope) -> Outlet:
    outlet = cast(dict[str, Any], scope["extensions"])[OUTLET]
    assert isinstance(outlet, Outlet)
    return outlet


async def one_word(scope: Scope, _: Receive, send: Send) -> None:
    """An application whose response goes on by itself, and breaks off after a word."""

    async def body(outlet: Outlet) -> None:
        await outlet.write(b"word")

    await send({"type": "http.response.start", "status": 200, "headers": []})
    outlet_in(scope).go_on(body)


class TestFraming:
    async def test_in_http_1_1_each_write_is_a_chunk_and_there_is_no_last_one(self) -> None:
        async with serving_app(one_word) as (_, url):
            said = await exchange(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head, body = said.split(b"\r\n\r\n", 1)
            assert b"transfer-encoding: chunked" in head.lower()
            assert body == chunk(b"word")

    async def test_in_http_1_0_the_body_is_as_it_is_and_ends_in_a_reset(self) -> None:
        async with serving_app(one_word) as (_, url):
            with pytest.raises(trio.BrokenResourceError):
                await exchange(url, b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        world = World()
        async with serving(world), watching(world, version="1.0") as stream:
            reader = await world.watches.next_reader()
            for event in (b"data: 1\n\n", b"data: 2\n\n"):
                await reader.events.send(event)
                assert await read_until(stream, event) == event

    async def test_an_answer_to_head_has_no_body(self) -> None:
        async with serving_app(one_word) as (_, url):
            said = await exchange(url, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert said.endswith(b"\r\n\r\n")

    async def test_a_body_that_fails_is_broken_off(self) -> None:
        async def app(scope: Scope, _: Receive, send: Send) -> None:
            async def body(outlet: Outlet) -> None:
                await outlet.write(b"word")
                raise RuntimeError("a bug")

            await send({"type": "http.response.start", "status": 200, "headers": []})
            outlet_in(scope).go_on(body)

        async with serving_app(app) as (_, url), httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                await client.get(url)


class TestReaders:
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    async def test_a_full_socket_in_the_middle_of_an_event_loses_nothing_and_reorders_nothing(
        self, version: str
    ) -> None:
        """P3: while it is full events wait, large ones and small ones, and then go out as they came."""
        world = World()
        events = [b"data: %d %s\n\n" % (number, b"x" * (300_000 if number % 10 == 5 else 10)) for number in range(60)]
        async with serving(world), watching(world, version=version) as stream:
            reader = await world.watches.next_reader()
            for event in events:
                await reader.events.send(event)
                await trio.testing.wait_all_tasks_blocked()
            received = b""
            with trio.fail_after(60):
                while b"data: 59 " not in received or not received.rstrip().endswith(b"x"):
                    received += await stream.receive_some(1 << 20)
            if version == "1.1":
                received = unchunked(received)
            assert received == b"".join(events)

    async def test_one_that_takes_nothing_delays_no_other(self) -> None:
        world = World()
        async with serving(world), watching(world), watching(world) as stream:
            stuck, quick = await world.watches.next_reader(), await world.watches.next_reader()
            for number in range(50):
                await stuck.events.send(b"data: " + b"x" * 100_000 + b"\n\n")
                event = b"data: %d\n\n" % number
                await quick.events.send(event)
                with trio.fail_after(60):
                    await read_until(stream, event)

    @pytest.mark.parametrize("available", [departures.AVAILABLE, False], ids=["told", "read"])
    async def test_what_a_client_says_behind_its_stream_is_not_answered_and_its_leaving_is_noticed(
        self, available: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whether or not the system tells of it."""
        monkeypatch.setattr(departures, "AVAILABLE", available)
        world = World()
        async with serving(world), watching(world) as stream:
            reader = await world.watches.next_reader()
            await stream.send_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
            await trio.testing.wait_all_tasks_blocked()
            await reader.events.send(b"data: 1\n\n")
            assert await read_until(stream, b"1\n\n\r\n") == chunk(b"data: 1\n\n")
            await stream.send_eof()
            with trio.fail_after(60):
                await reader.left.wait()
                assert await read_all(stream) == b""

    @pytest.mark.parametrize("way", ["closed", "reset"])
    async def test_many_that_leave_at_once_are_all_noticed(self, way: str) -> None:
        world, count = World(requests_per_user=0), 20
        async with serving(world), AsyncExitStack() as stack:
            token = await world.token()
            streams = [await stack.enter_async_context(watching(world, token=token)) for _ in range(count)]
            readers = [await world.watches.next_reader() for _ in streams]
            for stream in streams:
                if way == "reset":
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                await stream.aclose()
            with trio.fail_after(60):
                for reader in readers:
                    await reader.left.wait()

    async def test_heartbeats_come_while_nothing_else_does(self, autojump_clock: trio.testing.MockClock) -> None:
        """Every event puts the next heartbeat off; after the last one they come, one per period, which is a stream's
        own: not all of a chat's readers have theirs at one moment."""
        autojump_clock.autojump_threshold = 0.02  # for what is under way in the kernel
        world = World(sse_heartbeat_seconds=10)
        async with serving(world), watching(world) as stream:
            reader = await world.watches.next_reader()
            for number in range(5):
                await trio.sleep(6)
                event = b"data: %d\n\n" % number
                await reader.events.send(event)
                assert await read_until(stream, event + b"\r\n") == chunk(event)
            moments = [trio.current_time()]
            for _ in range(2):
                assert await read_until(stream, HEARTBEAT + b"\r\n") == chunk(HEARTBEAT)
                moments.append(trio.current_time())
            first, second = (after - before for before, after in pairwise(moments))
            assert first == pytest.approx(second, abs=0.1)
            assert 10 * HEARTBEATS_SPREAD[0] - 0.1 < first < 10 * HEARTBEATS_SPREAD[1] + 0.1


class TestPump:
    async def test_many_streams_leave_others_their_turn(self, nursery: trio.Nursery) -> None:
        """P4: a chat with very many readers delays no heartbeat of the replica."""
        pushed: list[int] = []
        pump, other = Pump(), trio.Event()

        class Stream:
            def push(self) -> None:
                pushed.append(1)
                other.set()

        for _ in range(10 * TURN_STREAMS):
            pump.due(Stream())
        nursery.start_soon(pump.run)
        await other.wait()
        assert len(pushed) <= 2 * TURN_STREAMS, "whichever of the two was first in the next round"
        await trio.testing.wait_all_tasks_blocked()
        assert len(pushed) == 10 * TURN_STREAMS


class TestSubscriber:
    def test_with_a_sink_what_is_pending_is_told_and_taken_in_one_piece(self) -> None:
        subscriber, told = Subscriber(buffer_bytes_max=100), list[str]()
        subscriber.sink = lambda: told.append("something")
        assert subscriber.receive_nowait() == b""
        subscriber.offer(Notice(b"data: 1\n\n", Cursor(1, Position(1, 1)), is_frame=True))
        subscriber.offer(Notice(b"data: 2\n\n", Cursor(1, Position(1, 2)), is_frame=True))
        assert told == ["something"] * 2
        assert subscriber.receive_nowait() == b"data: 1\n\ndata: 2\n\n"
        assert subscriber.receive_nowait() == b""

    def test_p3_what_is_held_back_of_a_reader_that_is_ahead_does_not_hide_what_is_new_behind_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It came back ahead of this feed, and has seen the first frames already."""
        monkeypatch.setattr("chatcluster.subscriber.TAKE_BYTES", 9)
        subscriber = Subscriber(buffer_bytes_max=1000)
        seen = [Notice(b"data: %d\n\n" % number, Cursor(1, Position(1, number)), is_frame=True) for number in (1, 2)]
        for notice in seen:
            subscriber.offer(notice)
            assert subscriber.receive_nowait() == notice.data
        for notice in (*seen, Notice(b"data: 3\n\n", Cursor(1, Position(1, 3)), is_frame=True)):
            subscriber.offer(notice)
        assert subscriber.receive_nowait() == b"data: 3\n\n"

    async def test_a_cut_wakes_the_one_who_waits_also_with_a_sink(self) -> None:
        """The end is for the stream's own task."""
        subscriber = Subscriber(buffer_bytes_max=100)
        subscriber.sink = lambda: None
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(Cut):
                    await subscriber.receive()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(LARGE_EVENTS_MAX * BURST_BUFFERS_MAX + 1):
                subscriber.offer(Notice(b"x" * 101))
        with pytest.raises(Cut, match="slow"):
            subscriber.receive_nowait()


def unchunked(data: bytes) -> bytes:
    pieces = []
    while data:
        size, data = data.split(b"\r\n", 1)
        pieces.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return b"".join(pieces)
