"""The places of the pool: what is important finds one, and one chat has two at most."""

from __future__ import annotations

import itertools
from uuid import uuid4

import pytest
import trio
import trio.testing

from chatcluster.errors import StoreUnavailable
from chatcluster.postgres.places import Lane, Places

NEVER = 3600.0


async def fill(places: Places, lane: Lane) -> int:
    """Take places in a lane until there are no more; how many that were."""
    for count in itertools.count():
        try:
            await places.take(lane, None, seconds_max=0.01)
        except StoreUnavailable:
            return count
    raise AssertionError


@pytest.mark.parametrize(
    ("size", "filled"),
    [(10, [7, 2, 1]), (5, [2, 2, 1]), (4, [1, 2, 1]), (3, [1, 1, 1]), (2, [1, 0, 1]), (1, [1, 0, 0])],
)
async def test_requests_leave_places_to_the_work_on_chats_and_both_leave_one_to_the_cluster(
    autojump_clock: trio.testing.MockClock, size: int, filled: list[int]
) -> None:
    """P10: however many requests come, claims, commits of owners, burial and health have connections."""
    places = Places(size)
    assert [await fill(places, lane) for lane in Lane] == filled


async def test_the_cluster_may_use_the_whole_pool(autojump_clock: trio.testing.MockClock) -> None:
    assert await fill(Places(10), Lane.CLUSTER) == 10


async def test_what_is_free_goes_to_all_that_wait_and_whose_lanes_allow_it() -> None:
    places = Places(4)
    served: list[str] = []

    async def take(lane: Lane, name: str) -> None:
        await places.take(lane, None, seconds_max=NEVER)
        served.append(name)

    for _ in range(4):
        await places.take(Lane.CLUSTER, None, seconds_max=NEVER)
    async with trio.open_nursery() as nursery:
        for lane, name in (
            (Lane.REQUESTS, "first request"),
            (Lane.CHATS, "commit"),
            (Lane.REQUESTS, "second request"),
            (Lane.CLUSTER, "burial"),
        ):
            nursery.start_soon(take, lane, name)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(4):
            places.give_back(Lane.CLUSTER, None)
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(served) == ["burial", "commit", "first request"]
        places.give_back(Lane.REQUESTS, None)
    assert served[3] == "second request"


async def test_there_may_be_fewer_places_from_some_moment_on_and_more_again() -> None:
    """P10: what is left to others is given back first; nobody is refused for it, and the cluster keeps its own."""
    places = Places(10)
    served: list[str] = []

    async def take(lane: Lane, name: str) -> None:
        await places.take(lane, None, seconds_max=NEVER)
        served.append(name)

    for _ in range(4):
        await places.take(Lane.REQUESTS, None, seconds_max=NEVER)
    places.resize(2)
    assert (places.size, places.taken) == (2, 4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, Lane.CLUSTER, "burial")
        nursery.start_soon(take, Lane.CHATS, "commit")
        await trio.testing.wait_all_tasks_blocked()
        for count in range(4):
            assert served == (["burial"] if count == 3 else [])
            places.give_back(Lane.REQUESTS, None)
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(served) == ["burial", "commit"]
        nursery.start_soon(take, Lane.CLUSTER, "health")
        await trio.testing.wait_all_tasks_blocked()
        places.resize(3)
    assert served[2] == "health"


@pytest.mark.parametrize("size", [1, 2])
async def test_where_no_place_can_be_left_to_what_is_important_it_goes_first(size: int) -> None:
    """P10: a share of one or two, and however many requests."""
    places = Places(size)
    served: list[Lane] = []

    async def take(lane: Lane) -> None:
        await places.take(lane, None, seconds_max=NEVER)
        served.append(lane)
        places.give_back(lane, None)

    for lane in (Lane.REQUESTS, Lane.CLUSTER)[:size]:
        await places.take(lane, None, seconds_max=NEVER)
    async with trio.open_nursery() as nursery:
        for lane in (Lane.REQUESTS, Lane.REQUESTS, Lane.CHATS):
            nursery.start_soon(take, lane)
            await trio.testing.wait_all_tasks_blocked()
        places.give_back(Lane.REQUESTS, None)
    assert served == [Lane.CHATS, Lane.REQUESTS, Lane.REQUESTS]


async def test_one_chat_has_two_places_and_waits_outside_of_the_pool_for_more() -> None:
    """P10: a row that somebody holds delays that chat alone."""
    places, held, served = Places(10), uuid4(), []

    async def take(name: str) -> None:
        await places.take(Lane.REQUESTS, held, seconds_max=NEVER)
        served.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abcdefghijklmno":
            nursery.start_soon(take, name)
            await trio.testing.wait_all_tasks_blocked()
        assert (served, places.taken) == (["a", "b"], 2)
        await places.take(Lane.REQUESTS, uuid4(), seconds_max=NEVER)
        places.give_back(Lane.REQUESTS, held)
        await trio.testing.wait_all_tasks_blocked()
        assert (served, places.taken) == (["a", "b", "c"], 3)
        nursery.cancel_scope.cancel()


async def test_a_wait_that_is_cancelled_or_too_long_leaves_nothing_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    places, chat_id = Places(1), uuid4()
    await places.take(Lane.REQUESTS, chat_id, seconds_max=1)
    for waiting_for in (chat_id, uuid4(), None):
        with pytest.raises(StoreUnavailable, match="within 1 s"):
            await places.take(Lane.CHATS, waiting_for, seconds_max=1)
        with trio.move_on_after(0.5):
            await places.take(Lane.CLUSTER, waiting_for, seconds_max=1)
    places.give_back(Lane.REQUESTS, chat_id)
    assert places.taken == 0
    await places.take(Lane.REQUESTS, chat_id, seconds_max=1)
