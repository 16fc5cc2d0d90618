"""Places that users share by turns: none waits behind all that another one has to be done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from chatcluster.byte_places import BytePlaces
from chatcluster.errors import NoPlace
from chatcluster.fair_places import FairPlaces

GREEDY, MODEST, THIRD = "greedy", "modest", "third"


class Work:
    """What is done in places, piece by piece, in the order in which it was admitted."""

    def __init__(self, places: FairPlaces, nursery: trio.Nursery) -> None:
        self.admitted: list[str | None] = []
        self._places = places
        self._nursery = nursery
        self._ends: list[trio.Event] = []

    async def want(self, user: str | None, times: int = 1) -> None:
        for _ in range(times):
            self._nursery.start_soon(self._do, user)
            await trio.testing.wait_all_tasks_blocked()

    async def end_first(self) -> None:
        self._ends.pop(0).set()
        await trio.testing.wait_all_tasks_blocked()

    async def _do(self, user: str | None) -> None:
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


async def test_work_of_nobody_has_its_turns_as_well(working: Callable[[FairPlaces], Work]) -> None:
    work = working(FairPlaces(1))
    await work.want(GREEDY)
    await work.want(None, times=2)
    await work.end_first()
    await work.end_first()
    assert work.admitted == [GREEDY, None, None]


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
    with trio.fail_after(60):
        async with places.taken(THIRD):
            pass
    assert repr(places) == "<FairPlaces 0 of 1 taken, 0 users wait>"


# --- bytes: what needs several places at once -------------------------------------------------


async def test_p10_what_one_user_holds_leaves_room_for_the_largest_of_another(nursery: trio.Nursery) -> None:
    places = BytePlaces(10, largest=4)
    for _ in range(3):
        nursery.start_soon(places.take, GREEDY, 3)
    await trio.testing.wait_all_tasks_blocked()
    assert repr(places) == "<BytePlaces 6 of 10 taken, 1 users wait>"
    with trio.fail_after(60):
        await places.take(MODEST, 4)
    assert repr(places) == "<BytePlaces 10 of 10 taken, 1 users wait>"


async def test_one_alone_is_not_kept_waiting_however_much_it_wants(nursery: trio.Nursery) -> None:
    places = BytePlaces(10, largest=4)
    with trio.fail_after(60):
        await places.take(GREEDY, 20)
    nursery.start_soon(places.take, MODEST, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert repr(places) == "<BytePlaces 20 of 10 taken, 1 users wait>"
    places.give_back(GREEDY, 15)
    assert repr(places) == "<BytePlaces 6 of 10 taken, 0 users wait>"


async def test_who_needs_few_does_not_wait_behind_who_needs_many(nursery: trio.Nursery) -> None:
    places = BytePlaces(10, largest=4)
    await places.take(THIRD, 7)
    nursery.start_soon(places.take, GREEDY, 4)
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(60):
        await places.take(MODEST, 1)
    places.give_back(THIRD, 7)
    assert repr(places) == "<BytePlaces 5 of 10 taken, 0 users wait>"


async def test_what_waited_behind_one_that_gave_up_is_next() -> None:
    places = BytePlaces(10, largest=4)
    await places.take(THIRD, 7)
    async with trio.open_nursery() as nursery:
        impatient = trio.CancelScope()

        async def want_many() -> None:
            with impatient:
                await places.take(MODEST, 4)

        nursery.start_soon(want_many)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(places.take, MODEST, 2)
        await trio.testing.wait_all_tasks_blocked()
        impatient.cancel()
    assert repr(places) == "<BytePlaces 9 of 10 taken, 0 users wait>"


async def test_bytes_that_are_not_there_in_time_are_no_place(autojump_clock: trio.testing.MockClock) -> None:
    places = BytePlaces(10, largest=4)
    async with places.taken_soon(GREEDY, 8, seconds_max=1):
        async with places.taken_soon(GREEDY, 0, seconds_max=1):
            pass
        with pytest.raises(NoPlace):
            async with places.taken_soon(MODEST, 4, seconds_max=1):
                raise AssertionError("there was none")
    assert repr(places) == "<BytePlaces 0 of 10 taken, 0 users wait>"
