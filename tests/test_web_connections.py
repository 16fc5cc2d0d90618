"""Connections that say nothing, or nothing more: bounded in number and time, and no real request pays for them."""

from __future__ import annotations

import resource
from contextlib import AsyncExitStack, suppress

import pytest
import trio
import trio.testing
from web_world import World, connect, read_until, serving, watching

from chatcluster.web.http import connection
from chatcluster.web.http.connections import RESERVED, Connections, Limits, counted_address
from chatcluster.web.http.descriptors import CONNECTIONS_MIN, SET_ASIDE, connections_within_reach


class Peer:
    def __init__(self, address: str = "10.0.0.1") -> None:
        self.address = address
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


class Clock:
    """Each look at it is so many seconds after the one before."""

    def __init__(self, step_seconds: float = Limits.grace_seconds) -> None:
        self._step_seconds = step_seconds
        self._now = 0.0

    def __call__(self) -> float:
        self._now += self._step_seconds
        return self._now


def admitted(connections: Connections, count: int, address: str = "10.0.0.1") -> list[Peer]:
    peers = [Peer(address) for _ in range(count)]
    assert all(connections.admit(peer, public=True) for peer in peers)
    return peers


def dropped(peers: list[Peer]) -> list[bool]:
    return [peer.dropped for peer in peers]


class TestPlaces:
    def test_the_silent_one_that_came_first_makes_room_for_the_next_of_its_address(self) -> None:
        connections = Connections(Limits(silent_per_address=2), Clock())
        others = admitted(connections, 2, "10.0.0.2")
        here = admitted(connections, 4)
        assert dropped(here) == [True, True, False, False]
        assert not any(dropped(others))

    def test_over_the_limit_of_all_addresses_the_oldest_of_all_goes(self) -> None:
        connections = Connections(Limits(silent=2), Clock())
        peers = [admitted(connections, 1, f"10.0.0.{number}")[0] for number in range(3)]
        assert dropped(peers) == [True, False, False]

    def test_p4_readers_that_come_at_once_from_one_address_are_all_taken_and_who_stays_silent_goes_later(self) -> None:
        """As when their replica has died, and they come through a load balancer."""
        connections = Connections(Limits(silent=2, silent_per_address=2), Clock(Limits.grace_seconds / 100))
        crowd = admitted(connections, 50)
        assert not any(dropped(crowd))
        for peer in crowd[:45]:
            connections.busy(peer)
        later = admitted(connections, 100)
        assert dropped(crowd) == [False] * 45 + [True] * 5
        assert dropped(later)[-2:] == [False, False]
        assert len(connections) < 45 + 5 + 100 + 2

    def test_one_that_has_asked_for_something_is_not_dropped_for_silent_ones(self) -> None:
        connections = Connections(Limits(silent=1, silent_per_address=1), Clock())
        (busy,) = admitted(connections, 1)
        connections.busy(busy)
        (idle,) = admitted(connections, 1)
        connections.busy(idle)
        connections.idle(idle)
        admitted(connections, 10)
        assert not busy.dropped
        assert not idle.dropped
        assert len(connections) == 3

    def test_where_there_is_no_place_the_longest_idle_goes_and_where_all_are_busy_the_new_one(self) -> None:
        connections = Connections(Limits(total=3), Clock())
        peers = admitted(connections, 3)
        for peer in peers:
            connections.busy(peer)
        connections.idle(peers[1])
        connections.idle(peers[0])
        connections.busy(admitted(connections, 1)[0])
        connections.busy(admitted(connections, 1)[0])
        assert dropped(peers) == [True, True, False]
        assert not connections.admit(Peer(), public=True)
        assert sum(connections.admit(Peer(f"probe {number}"), public=False) for number in range(100)) == 100
        assert len(connections) == 3 + RESERVED, "silent ones on the replica's own port made room for one another"

    def test_one_that_was_answered_is_idle_though_nobody_asked_for_its_body(self) -> None:
        connections = Connections(Limits(silent_per_address=1), Clock())
        (first,) = admitted(connections, 1)
        connections.busy(first)
        connections.silent(first)
        connections.idle(first)
        admitted(connections, 1)
        assert not first.dropped

    def test_one_whose_request_is_open_to_everybody_and_not_whole_is_as_good_as_silent(self) -> None:
        connections = Connections(Limits(silent_per_address=2), Clock())
        first, second = admitted(connections, 2)
        for peer in (first, second):
            connections.busy(peer)
        connections.idle(second)
        connections.silent(first)
        connections.silent(second)
        connections.busy(second)
        admitted(connections, 2)
        assert dropped([first, second]) == [True, False]
        connections.silent(first)
        assert len(connections) == 3

    def test_nothing_is_remembered_of_those_that_are_gone(self) -> None:
        connections = Connections(Limits(), Clock())
        for peer in admitted(connections, 5):
            connections.busy(peer)
            connections.idle(peer)
            connections.remove(peer)
            connections.remove(peer)
            connections.idle(peer)
        assert len(connections) == 0
        assert not connections._idle
        assert not connections._silent_at


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::7", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
    ],
)
def test_a_machine_counts_once_however_many_addresses_it_has(host: str, counted: str) -> None:
    assert counted_address(host) == counted


class TestDescriptors:
    @pytest.fixture(autouse=True)
    def _limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limits = (1024, 4096)
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.limits)
        monkeypatch.setattr(resource, "setrlimit", lambda _, limits: setattr(self, "limits", limits))

    def test_the_limit_is_raised_as_far_as_it_is_needed(self) -> None:
        assert connections_within_reach(2000, own=74) == 2000
        assert self.limits == (2000 + 74 + SET_ASIDE, 4096)

    def test_where_it_cannot_be_raised_that_far_callers_get_what_the_replicas_own_leave(self) -> None:
        assert connections_within_reach(12_000, own=74) == 4096 - 74 - SET_ASIDE

    def test_a_limit_that_is_too_low_for_anything_leaves_a_few(self) -> None:
        self.limits = (64, 64)
        assert connections_within_reach(12_000, own=74) == CONNECTIONS_MIN

    @pytest.mark.parametrize("hard", [resource.RLIM_INFINITY, 1 << 20])
    def test_no_limit_is_none(self, hard: int) -> None:
        self.limits = (resource.RLIM_INFINITY, hard)
        assert connections_within_reach(12_000, own=74) == 12_000


HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


async def is_closed(stream: trio.SocketStream) -> bool:
    """Wait for the end that the server makes."""
    with trio.fail_after(60):
        try:
            return await stream.receive_some() == b""
        except trio.BrokenResourceError:
            return True


class TestServer:
    async def test_many_that_say_nothing_keep_nobody_else_out(self) -> None:
        world = World()
        world.limits = Limits(silent=20, silent_per_address=10, grace_seconds=0.0)
        async with serving(world), AsyncExitStack() as stack, watching(world):
            silent = [await stack.enter_async_context(await connect(world.url)) for _ in range(100)]
            for stream in silent[1::2]:
                await stream.send_all(HEAD + b"X-A: " + b"a" * 20_000)
            for stream in silent[:90]:
                assert await is_closed(stream)
            async with world.client(await world.token()) as client:
                assert (await client.get("/readyz")).status_code == 200
                assert (await client.post("/api/v1/chats", json={"content": "x"})).status_code == 201
            with trio.fail_after(60):
                while "10 connections" not in repr(world.server):  # one was dropped for the client, which left
                    await trio.testing.wait_all_tasks_blocked(0.005)
        assert b'connections_dropped_total{state="silent"} 9' in world.metrics.render()

    @pytest.mark.parametrize("said", [b"", b"G", HEAD])
    async def test_the_head_of_a_request_has_to_be_there_in_time(self, said: bytes) -> None:
        world = World()
        world.limits = Limits(head_seconds=0.3)
        async with serving(world), await connect(world.url) as stream:
            if said:
                await stream.send_all(said)
            assert await is_closed(stream)

    async def test_a_head_that_comes_byte_by_byte_gets_no_more_time(self) -> None:
        world = World()
        world.limits = Limits(head_seconds=0.1)
        async with serving(world), await connect(world.url) as stream:
            with trio.fail_after(60), suppress(trio.BrokenResourceError):
                data: bytes | None = None
                while data != b"":
                    await stream.send_all(b"G")
                    data = None
                    with trio.move_on_after(0.01):
                        data = await stream.receive_some()

    async def test_between_two_requests_there_is_more_time_and_for_the_next_head_there_is_not(
        self, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
    ) -> None:
        monkeypatch.setattr(connection, "KEEP_ALIVE_SECONDS", 5.0)
        world = World()
        world.limits = Limits(head_seconds=0.3)
        async with serving(world), await connect(world.url) as stream:
            for _ in range(2):
                await stream.send_all(HEAD + b"\r\n")
                await read_until(stream, b'"alive"}')
                await trio.testing.wait_all_tasks_blocked(0.005)
                mock_clock.jump(0.45)  # it is idle, and not closed
                await trio.testing.wait_all_tasks_blocked(0.005)
            await stream.send_all(HEAD)
            await trio.testing.wait_all_tasks_blocked(0.005)
            mock_clock.jump(0.45)
            assert await is_closed(stream)

    async def test_p10_slow_bodies_of_nobody_knows_whom_keep_nobody_out(self) -> None:
        """Each of them would have a place for half a minute."""
        world = World()
        world.limits = Limits(total=20, silent_per_address=4, grace_seconds=0.0)
        sign_in = b"POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        async with serving(world), AsyncExitStack() as stack, watching(world):
            slow = [await stack.enter_async_context(await connect(world.url)) for _ in range(2)]
            for stream in slow:  # one that has asked before is no better
                await stream.send_all(HEAD + b"\r\n")
                await read_until(stream, b'"alive"}')
            slow += [await stack.enter_async_context(await connect(world.url)) for _ in range(40)]
            for stream in slow:
                with suppress(trio.BrokenResourceError):
                    await stream.send_all(sign_in + b"Content-Length: 9\r\n\r\n{")
                await trio.testing.wait_all_tasks_blocked(0.005)
            async with world.client(await world.token()) as client:
                assert (await client.post("/api/v1/chats", json={"content": "x"})).status_code == 201
            for stream in slow[:38]:
                assert await is_closed(stream)
            last = await stack.enter_async_context(await connect(world.url))
            await last.send_all(sign_in + b"Content-Length: 2\r\n\r\n{")
            await last.send_all(b"}")
            assert b" 400 " in await read_until(last, b"\r\n")

    async def test_a_body_may_take_longer_than_a_head(self, mock_clock: trio.testing.MockClock) -> None:
        world = World()
        world.limits = Limits(head_seconds=0.3)
        async with serving(world), await connect(world.url) as stream:
            head = f"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await world.token()}\r\n"
            await stream.send_all(head.encode() + b"Content-Type: application/json\r\nContent-Length: 15\r\n\r\n{")
            await trio.testing.wait_all_tasks_blocked(0.005)
            mock_clock.jump(0.45)
            await trio.testing.wait_all_tasks_blocked(0.005)
            await stream.send_all(b'"content":"x"}')
            assert b" 201 " in await read_until(stream, b"\r\n")
