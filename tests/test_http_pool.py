"""Connections are used again, the last one first, and a request costs the same however many there are (P10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpcore
import pytest
import trio
import trio.testing

from chatcluster.http_pool import Pool

URL = "http://model.test/"
ANSWER = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"] * 50


class Made:
    """The connections that a pool made, and how often it looked whether one has expired."""

    def __init__(self) -> None:
        self.all: list[_Connection] = []
        self.looks = 0

    def __call__(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        self.all.append(_Connection(origin, self))
        return self.all[-1]


class _Connection(httpcore.AsyncHTTPConnection):
    def __init__(self, origin: httpcore.Origin, made: Made) -> None:
        super().__init__(origin, network_backend=httpcore.AsyncMockBackend(ANSWER))
        self.expired = False
        self._made = made

    def has_expired(self) -> bool:
        self._made.looks += 1
        return self.expired or super().has_expired()


def pool_of(made: Made, *, connections_max: int = 300, idle_max: int = 300) -> Pool:
    return Pool(made, connections_max=connections_max, idle_max=idle_max)


def request(seconds_max: float | None = None) -> httpcore.Request:
    return httpcore.Request("GET", URL, headers=[("host", "model.test")], extensions={"timeout": {"pool": seconds_max}})


@asynccontextmanager
async def asked(pool: Pool) -> AsyncIterator[httpcore.Response]:
    response = await pool.handle_async_request(request())
    try:
        yield response
    finally:
        await response.aclose()


async def ask(pool: Pool) -> None:
    async with asked(pool) as response:
        assert await response.aread() == b"ok"


async def ask_at_once(pool: Pool, count: int) -> None:
    """So many at a time, so that as many connections are there in the end."""
    responses = [await pool.handle_async_request(request()) for _ in range(count)]
    for response in responses:
        await response.aread()
        await response.aclose()


async def test_a_request_costs_the_same_however_many_connections_there_are() -> None:
    pool = pool_of(made := Made())
    await ask_at_once(pool, 200)
    before = made.looks
    for _ in range(10):
        await ask(pool)
    assert (len(made.all), made.looks - before) == (200, 10)


async def test_the_one_that_was_used_last_is_used_next_and_the_others_expire() -> None:
    pool = pool_of(made := Made())
    await ask_at_once(pool, 3)
    for one in made.all[:2]:
        one.expired = True
    await ask(pool)
    assert not any(one.is_closed() for one in made.all)
    await pool.close_expired()
    assert [one.is_closed() for one in made.all] == [True, True, False]


async def test_one_that_has_expired_is_closed_and_not_used() -> None:
    pool = pool_of(made := Made())
    await ask(pool)
    made.all[0].expired = True
    await ask(pool)
    assert [one.is_closed() for one in made.all] == [True, False]


async def test_what_is_left_before_its_end_is_closed() -> None:
    pool = pool_of(made := Made())
    async with asked(pool):
        pass
    assert made.all[0].is_closed()
    await ask(pool)
    assert len(made.all) == 2


async def test_no_more_are_kept_than_may_be_idle() -> None:
    pool = pool_of(made := Made(), idle_max=2)
    await ask_at_once(pool, 5)
    assert [one.is_closed() for one in made.all] == [True, True, True, False, False]


async def test_a_request_waits_for_a_place_and_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    pool = pool_of(Made(), connections_max=1)
    async with asked(pool):
        with pytest.raises(httpcore.PoolTimeout):
            await pool.handle_async_request(request(2.0))
        assert trio.current_time() == 2.0
    await ask(pool)


async def test_a_request_that_is_given_up_leaves_its_place_and_its_connection(nursery: trio.Nursery) -> None:
    pool = pool_of(made := Made(), connections_max=1)
    await ask(pool)
    for _ in range(3):
        with trio.CancelScope() as scope:
            scope.cancel()
            await pool.handle_async_request(request())
        assert scope.cancelled_caught
    await ask(pool)
    assert len([one for one in made.all if not one.is_closed()]) == 1


async def test_one_that_cannot_connect_leaves_its_place() -> None:
    class Unreachable(httpcore.AsyncMockBackend):
        async def connect_tcp(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
            raise httpcore.ConnectError("nobody listens")

    pool = Pool(
        lambda origin: httpcore.AsyncHTTPConnection(origin, network_backend=Unreachable([])),
        connections_max=1,
        idle_max=1,
    )
    for _ in range(2):
        with pytest.raises(httpcore.ConnectError):
            await pool.handle_async_request(request(0.0))


async def test_the_end_closes_those_that_are_busy_as_well() -> None:
    pool = pool_of(made := Made())
    await ask(pool)
    async with asked(pool), asked(pool):
        await pool.aclose()
        assert all(one.is_closed() for one in made.all)
    await ask(pool)
