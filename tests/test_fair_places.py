"""Places that users share by turns: none waits behind all that another one has to be done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from chatcluster.fair_places import FairPlaces

GREEDY, MODEST, THIRD = "greedy", "modest", "third"


class Work:
    """What is done in places, piece by piece, in the order in which it was admitted."""

    def __init__(self, places: FairPlaces, nursery: trio.Nursery) -> None:
        self.admitted: list[str] = []
        self._places = places
        self._nursery = nursery
        self._ends: list[trio.Event] = []

    async def want(self, user: str, times: int = 1) -> None:
        for _ in range(times):
            self._nursery.start_soon(self._do, user)
            await trio.testing.wait_all_tasks_blocked()

    async def end_first(self) -> None:
        self._ends.pop(0).set()
        await trio.testing.wait_all_tasks_blocked()

    async def _do(self, user: str) -> None:
        async with self._places.taken(user):
            self.admitted.append(user)
            end = trio.Event()
            self._ends.append(end)
            await end.wait()


@pytest.fixture
async def working(nursery: trio.Nursery) -> Callable[[FairPlaces], Work]:
    return lambda places: Work(places, nursery)


async def test_p10_another_user_is_next_however_many_of_one_wait(working: Callable[[FairPlaces], Work]) -> None:
    work = working(FairPlaces(1))
    await work.want(GREEDY, times=5)
    await work.want(MODEST)
    await work.want(THIRD)
    for _ in range(4):
        await work.end_first()
    assert work.admitted == [GREEDY, GREEDY, MODEST, THIRD, GREEDY]


async def test_p10_one_user_never_has_all_places_where_each_has_a_share(
    working: Callable[[FairPlaces], Work],
) -> None:
    work = working(FairPlaces(3, each=2))
    await work.want(GREEDY, times=5)
    assert work.admitted == [GREEDY, GREEDY]
    await work.want(MODEST)
    assert work.admitted == [GREEDY, GREEDY, MODEST], "at once, although others wait"


async def test_a_user_alone_is_served_in_order(working: Callable[[FairPlaces], Work]) -> None:
    work = working(FairPlaces(2))
    await work.want(GREEDY, times=3)
    assert work.admitted == [GREEDY] * 2
    await work.end_first()
    assert work.admitted == [GREEDY] * 3


async def test_who_gives_up_leaves_the_queue_and_keeps_no_place() -> None:
    places = FairPlaces(1)
    async with places.taken(GREEDY):
        with trio.move_on_after(0.01):
            await places.take(MODEST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(places.take, MODEST)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            places.give_back(GREEDY)  # it is admitted, and does not want it any more
        await places.take(GREEDY)
    with trio.fail_after(1):
        async with places.taken(THIRD):
            pass
    assert repr(places) == "<FairPlaces 0 of 1 taken, 0 users wait>"
