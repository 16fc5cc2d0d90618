"""Places for readers: one count for all kinds of streams, and no user who takes them from the others."""

from __future__ import annotations

from contextlib import ExitStack
from uuid import UUID

import pytest

from chatcluster.audience import Audience
from chatcluster.errors import TooMany
from chatcluster.setting_sections import Streaming

GREEDY, OTHER, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)


def taken(audience: Audience, stack: ExitStack, user_id: UUID, wanted: int) -> int:
    """How many of ``wanted`` places the user gets."""
    for number in range(wanted):
        try:
            stack.enter_context(audience.place(user_id))
        except TooMany:
            return number
    return wanted


@pytest.mark.parametrize("places", [2, 3, 10, 1000])
def test_one_user_leaves_half_of_the_places_to_others(places: int) -> None:
    audience = Audience(Streaming(subscribers_max=places, subscribers_per_user=0))
    with ExitStack() as stack:
        assert taken(audience, stack, GREEDY, 2 * places) == (places + 1) // 2
        assert taken(audience, stack, OTHER, 1) == 1
    assert audience.size == 0


def test_whoever_has_no_place_yet_gets_one_as_long_as_there_is_any() -> None:
    audience = Audience(Streaming(subscribers_max=30))
    with ExitStack() as stack:
        shares = [taken(audience, stack, UUID(int=number), 30) for number in range(6)]
        assert shares == [15, 8, 4, 2, 1, 0]
        assert audience.size == 30


def test_a_users_own_limit_holds_while_there_is_room_and_gives_places_back() -> None:
    audience = Audience(Streaming(subscribers_max=100, subscribers_per_user=3))
    with ExitStack() as stack:
        assert taken(audience, stack, GREEDY, 10) == 3
        assert taken(audience, stack, OTHER, 10) == 3
        assert taken(audience, stack, THIRD, 10) == 3
    with ExitStack() as stack:
        assert taken(audience, stack, GREEDY, 10) == 3


def test_a_place_is_given_back_when_its_reader_fails() -> None:
    audience = Audience(Streaming(subscribers_max=1))
    with pytest.raises(RuntimeError), audience.place(GREEDY):
        raise RuntimeError
    with audience.place(OTHER):
        assert audience.size == 1
