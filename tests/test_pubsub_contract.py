"""What every ``PubSub`` does: messages in order to whoever listens, and a gap wherever one may have been missed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
import trio
from broker_worlds import World, open_cut_off_world, open_world

from chatcluster.ports import GAP, Gap, Subscription

MANY = 2000
"""More messages than any subscription buffers."""


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("empty_redis_url")


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[World]:
    with trio.fail_after(120):
        async with open_world(url) as world:
            yield world


async def until(subscription: Subscription, last: bytes | Gap) -> list[bytes | Gap]:
    """Everything that comes, up to and with ``last``; a message that comes twice in a row counts once."""
    received: list[bytes | Gap] = []
    while not received or received[-1] != last:
        arrived = await subscription.receive()
        if not received or received[-1] != arrived:
            received.append(arrived)
    return received


async def test_a_message_reaches_the_subscribers_of_its_channel_on_every_replica(world: World) -> None:
    async with (
        world.here.subscribe("a", "b") as local,
        world.there.subscribe("a") as remote,
        world.there.subscribe("b") as other,
    ):
        world.here.publish("a", b"1")
        world.here.publish("b", b"2")
        world.here.publish("c", b"3")
        world.here.publish("a", b"4")
        assert set(await until(local, b"4")) == {b"1", b"2", b"4"}
        assert await until(remote, b"4") == [b"1", b"4"]
        assert await until(other, b"2") == [b"2"]


async def test_messages_arrive_in_the_order_in_which_they_were_published(world: World) -> None:
    async with world.there.subscribe("a") as subscription:
        messages = [b"%d" % number for number in range(100)]
        for message in messages:
            world.here.publish("a", message)
        assert await until(subscription, messages[-1]) == messages


async def test_what_is_taken_on_arrival_does_not_come_again_and_the_rest_comes_in_order(world: World) -> None:
    async with world.there.subscribe("a") as subscription:
        for number in range(100):
            world.here.publish("a", b"%d" % number)
        taken: list[bytes | Gap] = []

        def takes(payload: bytes | Gap) -> bool:
            if payload == b"70":
                return False
            taken.append(payload)
            return True

        assert await subscription.receive_unless(takes) == b"70"
        assert taken == [b"%d" % number for number in range(70)]
        assert await until(subscription, b"99") == [b"%d" % number for number in range(71, 100)]
        assert len(taken) == 70, "nobody takes while nobody waits"


async def test_who_is_cancelled_while_others_take_for_it_loses_nothing(world: World) -> None:
    async with world.there.subscribe("a") as subscription:
        taken: list[bytes | Gap] = []
        with trio.CancelScope() as scope:

            def takes(payload: bytes | Gap) -> bool:
                taken.append(payload)
                scope.cancel()
                return True

            world.here.publish("a", b"1")
            await subscription.receive_unless(takes)
        world.here.publish("a", b"2")
        rest = await until(subscription, b"2")
        assert [*taken, *rest] == [b"1", b"2"]


async def test_what_is_handed_over_needs_nobody_to_wait_for_it(world: World) -> None:
    """Neither what came before, nor what comes later, nor the word that something may have been missed."""
    taken: list[bytes | Gap] = []
    awaited: dict[bytes | Gap, trio.Event] = {payload: trio.Event() for payload in (b"1", b"2", GAP)}

    def takes(payload: bytes | Gap) -> Literal[True]:
        taken.append(payload)
        awaited[payload].set()
        return True

    async with world.there.subscribe("a") as subscription:
        world.there.publish("a", b"1")
        subscription.hand_over(takes)
        assert taken == [b"1"], "what was there is handed over at once"
        world.here.publish("a", b"2")
        await awaited[b"2"].wait()
        await world.break_subscriptions()
        await awaited[GAP].wait()
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()


async def test_a_subscriber_in_the_same_process_has_a_message_at_once(world: World) -> None:
    async with world.here.subscribe("a") as subscription:
        world.here.publish("a", b"1")
        assert subscription.receive_nowait() == b"1"


async def test_payloads_are_bytes_of_any_kind(world: World) -> None:
    payload = bytes(range(256)) * 1000
    async with world.there.subscribe("a") as subscription:
        world.here.publish("a", payload)
        world.here.publish("a", b"")
        assert await until(subscription, b"") == [payload, b""]


async def test_nothing_is_there_before_something_was_published(world: World) -> None:
    async with world.here.subscribe("a") as subscription:
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()


async def test_a_cancelled_receive_loses_nothing(world: World) -> None:
    async with world.here.subscribe("a") as subscription:
        with trio.move_on_after(0):
            await subscription.receive()
        world.here.publish("a", b"1")
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.receive()
        assert subscription.receive_nowait() == b"1"


async def test_an_overflow_is_a_gap_in_the_place_of_what_was_missed(world: World) -> None:
    """P3: a slow reader knows that it has to read the truth."""
    async with world.here.subscribe("a") as slow:
        for number in range(MANY):
            world.here.publish("a", b"%d" % number)
        seen: list[bytes | Gap] = []
        while not seen or seen[-1] != b"%d" % (MANY - 1):
            seen.append(await slow.receive())
    assert GAP in seen
    assert len(seen) < MANY


async def test_after_a_lost_connection_there_is_a_gap_and_then_messages_again(world: World) -> None:
    """P8"""
    async with world.here.subscribe("a") as first, world.there.subscribe("a", "b") as second:
        await world.break_subscriptions()
        assert (await until(first, GAP))[-1] is GAP
        assert (await until(second, GAP))[-1] is GAP
        came: list[bytes | Gap] = []
        while b"2" not in came:  # what is published before the connection is there again may be missed
            world.here.publish("a", b"1")
            world.here.publish("b", b"2")
            with trio.move_on_after(0.5):
                came += await until(second, b"2")
        assert (await until(first, b"1"))[-1] == b"1"
        assert {b"1", b"2"} <= set(came)


async def test_a_channel_can_be_left_and_entered_again(world: World) -> None:
    for round_number in range(3):
        async with world.there.subscribe("a") as subscription:
            world.here.publish("a", b"%d" % round_number)
            assert await until(subscription, b"%d" % round_number) == [b"%d" % round_number]


async def test_one_subscriber_that_leaves_does_not_end_it_for_the_others(world: World) -> None:
    async with world.there.subscribe("a") as stays:
        async with world.there.subscribe("a"):
            pass
        world.here.publish("a", b"1")
        assert await until(stays, b"1") == [b"1"]


async def test_without_the_server_subscribers_here_still_have_their_messages(url: str | None) -> None:
    """P8: publishing neither fails nor waits, and a block that cannot be confirmed is entered all the same."""
    with trio.fail_after(120):
        async with open_cut_off_world(url) as world, world.here.subscribe("a") as subscription:
            for number in range(3):
                world.here.publish("a", b"%d" % number)
            assert [subscription.receive_nowait() for _ in range(3)] == [b"0", b"1", b"2"]
