"""One user at full load: the others hardly notice, and what is too much is refused before it costs anything."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
import trio.testing
from web_world import World, client_of, error_code, serving

from chatcluster.errors import TooMany
from chatcluster.setting_sections import Http
from chatcluster.web.shares import BUCKETS_MAX, WAIT_SECONDS_MAX, WAITING_MAX, Buckets, Shares

GREEDY, OTHER = UUID(int=1), UUID(int=2)


class Load:
    """Requests that are served until they are told to end."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.served = 0
        self.refused = 0
        self.done = trio.Event()

    async def request(self, user_id: UUID) -> None:
        try:
            await self._shares.enter(user_id)
        except TooMany:
            self.refused += 1
            return
        try:
            self.served += 1
            await self.done.wait()
        finally:
            self._shares.leave(user_id)


async def test_a_users_requests_are_served_a_few_at_a_time_and_anothers_at_once() -> None:
    shares = Shares(Http(requests_per_user=4, requests_per_second_per_user=0))
    greedy, other = Load(shares), Load(shares)
    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX + 10):
            nursery.start_soon(greedy.request, GREEDY)
        await trio.testing.wait_all_tasks_blocked()
        assert (greedy.served, greedy.refused) == (4, 6)
        nursery.start_soon(other.request, OTHER)
        await trio.testing.wait_all_tasks_blocked()
        assert other.served == 1
        other.done.set()
        greedy.done.set()
    assert greedy.served == WAITING_MAX + 4, "those that waited had their turn"
    assert not shares._turns


async def test_nobody_waits_for_a_turn_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    shares = Shares(Http(requests_per_user=1))
    load = Load(shares)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.request, GREEDY)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(TooMany):
            await shares.enter(GREEDY)
        assert trio.current_time() - began == WAIT_SECONDS_MAX
        load.done.set()


async def test_a_rate_is_a_users_own_and_fills_again(autojump_clock: trio.testing.MockClock) -> None:
    shares = Shares(Http(requests_per_user=0, requests_per_second_per_user=5))
    for _ in range(10):
        await shares.enter(GREEDY)
    with pytest.raises(TooMany) as refused:
        await shares.enter(GREEDY)
    assert refused.value.retry_after_seconds == 1
    await shares.enter(OTHER)
    await trio.sleep(0.2)
    await shares.enter(GREEDY)
    with pytest.raises(TooMany):
        await shares.enter(GREEDY)


async def test_limits_of_zero_are_none() -> None:
    shares = Shares(Http(requests_per_user=0, requests_per_second_per_user=0))
    for _ in range(2000):
        await shares.enter(GREEDY)
        shares.leave(GREEDY)


async def test_what_is_remembered_of_very_many_is_bounded() -> None:
    buckets = Buckets(per_second=1, burst=1)
    for number in range(BUCKETS_MAX + 100):
        buckets.take(number)
    assert len(buckets._levels) == BUCKETS_MAX


async def test_over_a_rate_the_answer_is_429_with_a_time_to_come_back_and_others_are_served() -> None:
    world = World(requests_per_second_per_user=0.5)
    async with serving(world), world.client(await world.token("greedy")) as greedy:
        assert (await greedy.get("/api/v1/me")).status_code == 200
        refused = await greedy.post("/api/v1/chats", json={"content": "x"})
        assert (refused.status_code, error_code(refused)) == (429, "too_many")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await greedy.get("/livez")).status_code == 200
        async with world.client(await world.token("other")) as other:
            assert (await other.get("/api/v1/me")).status_code == 200


async def test_open_streams_take_no_turn_of_requests() -> None:
    world = World(requests_per_user=1)
    async with client_of(world) as client, client.stream("GET", "/api/v1/watch"):
        await world.watches.next_reader()
        assert (await client.get("/api/v1/me")).status_code == 200
