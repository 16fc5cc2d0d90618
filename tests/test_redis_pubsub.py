"""Pub/sub on a real Redis: what is said, to whom, in what order, and that no gap goes unsaid."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NoReturn

import pytest
import trio
import trio.testing
from redis_faults import frozen

from chatcluster import pubsub as switchboard
from chatcluster import telemetry
from chatcluster.errors import StreamsUnavailable
from chatcluster.local.embedded import RedisServer
from chatcluster.ports import GAP, Gap, Subscription
from chatcluster.pubsub import BUFFER_MESSAGES_MAX, Inbox, Switchboard
from chatcluster.redis import connections as redis_module
from chatcluster.redis import pubsub as subject
from chatcluster.redis.connections import Command, RedisConnection, Reply, open_redis
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.transport import RedisAddress


@asynccontextmanager
async def replica(url: str) -> AsyncIterator[RedisPubSub]:
    """One replica's pub/sub, running, on a connection of its own."""
    async with open_redis(url, cluster_id="here") as connection, trio.open_nursery() as nursery:
        pubsub = RedisPubSub(connection)
        await nursery.start(pubsub.run)
        yield pubsub
        nursery.cancel_scope.cancel()


async def received(subscription: Subscription, count: int = 1) -> list[bytes | Gap]:
    with trio.fail_after(60):
        return [await subscription.receive() for _ in range(count)]


PREFIX = "chatcluster:here:0:"
"""What the server calls the channels of these replicas' cluster."""


async def followers(url: str, *channels: str) -> list[Reply]:
    """How many connections follow each channel."""
    reply = await ask(url, "PUBSUB", "NUMSUB", *(PREFIX + channel for channel in channels))
    assert isinstance(reply, list)
    return reply[1::2]


async def ask(url: str, *command: str) -> Reply:
    async with open_redis(url, cluster_id="here") as connection:
        return (await connection.exchange([command]))[0]


class Events:
    """What telemetry reported, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, object]]] = []
        self._arrival = trio.lowlevel.ParkingLot()

    def listen(self, name: str, fields: dict[str, object]) -> None:
        self.seen.append((name, fields))
        self._arrival.unpark_all()

    async def wait_for(self, name: str) -> dict[str, object]:
        with trio.fail_after(60):
            while True:
                for seen, fields in self.seen:
                    if seen == name:
                        return fields
                await self._arrival.park()


@pytest.fixture
def events() -> Iterator[Events]:
    collected = Events()
    telemetry.subscribe(collected.listen)
    yield collected
    telemetry.unsubscribe(collected.listen)


def contents(inbox: Inbox) -> list[bytes | Gap]:
    taken = []
    while True:
        try:
            taken.append(inbox.receive_nowait())
        except trio.WouldBlock:
            return taken


# --- passing messages on ------------------------------------------------------------------------


async def test_a_message_reaches_every_replica_in_order_and_its_own_process_at_once(empty_redis_url: str) -> None:
    messages = [b"%d" % number for number in range(600)]
    async with (
        replica(empty_redis_url) as here,
        replica(empty_redis_url) as there,
        here.subscribe("a") as local,
        there.subscribe("a", "b") as remote,
        there.subscribe("b") as other,
    ):
        here.publish("a", messages[0])
        assert local.receive_nowait() == messages[0]
        assert await received(remote) == [messages[0]]
        for batch in (messages[1:200], messages[200:400], messages[400:]):
            for message in batch:
                here.publish("a", message)
            assert await received(remote, len(batch)) == batch
        here.publish("b", b"last")
        assert await received(other) == [b"last"]


async def test_p8_without_a_server_messages_stay_in_the_process_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subject, "CONFIRM_SECONDS", 3600.0)
    async with replica("redis://127.0.0.1:1/0") as alone:
        with trio.fail_after(60):
            async with alone.subscribe("a") as subscription:
                alone.publish("a", b"hint")
                assert await subscription.receive() == b"hint"


async def test_many_channels_are_told_to_the_server_in_bounded_commands(
    empty_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "CHANNELS_PER_COMMAND_MAX", 3)
    channels = [f"channel {number}" for number in range(10)]
    async with (
        replica(empty_redis_url) as here,
        replica(empty_redis_url) as there,
        there.subscribe(*channels) as subscription,
    ):
        for channel in channels:
            here.publish(channel, channel.encode())
        assert await received(subscription, 10) == [channel.encode() for channel in channels]


async def test_a_channel_is_left_at_the_server_when_its_last_subscriber_leaves(empty_redis_url: str) -> None:
    async with replica(empty_redis_url) as pubsub, pubsub.subscribe("kept") as kept:
        async with pubsub.subscribe("left", "kept"):
            async with pubsub.subscribe("left"):
                pass
            assert await followers(empty_redis_url, "left", "kept") == [1, 1]
        # Commands of one connection are carried out in order: this confirmation comes after the leaving.
        async with pubsub.subscribe("later"):
            assert await followers(empty_redis_url, "left", "kept") == [0, 1]
        await ask(empty_redis_url, "PUBLISH", PREFIX + "kept", "still here")
        assert await received(kept) == [b"still here"]


async def test_a_slow_subscriber_gets_one_gap_and_holds_nobody_else_up(
    empty_redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switchboard, "BUFFER_MESSAGES_MAX", 10)
    async with (
        replica(empty_redis_url) as here,
        replica(empty_redis_url) as there,
        there.subscribe("a") as slow,
        there.subscribe("a") as quick,
    ):
        for number in range(15):
            here.publish("a", b"%d" % number)
            assert await received(quick) == [b"%d" % number]
        assert await received(slow, 5) == [GAP, b"11", b"12", b"13", b"14"]


# --- P3, P8: losing the server ------------------------------------------------------------------


async def test_p8_a_server_that_restarts_empty_gives_every_subscription_one_gap_and_works_again(
    own_redis: RedisServer, events: Events
) -> None:
    url = own_redis.start()
    async with (
        replica(url) as here,
        replica(url) as there,
        here.subscribe("a") as first,
        there.subscribe("a", "b") as second,
        there.subscribe("c") as third,
    ):
        own_redis.kill()
        await events.wait_for("pubsub.lost")
        own_redis.start()
        with trio.fail_after(60):
            assert [await subscription.receive() for subscription in (first, second, third)] == [GAP] * 3
        here.publish("a", b"first")
        here.publish("b", b"second")
        assert await received(second, 2) == [b"first", b"second"]
        await ask(url, "PUBLISH", PREFIX + "c", "third")
        assert await received(third) == [b"third"]


class Unreliable(RedisConnection):
    """A connection without a server: batches fail until ``works`` is set, and are kept after that."""

    def __init__(self) -> None:
        super().__init__(RedisAddress(), "here")
        self.works = False
        self.failures = 0
        self.sent: list[bytes] = []

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        await trio.lowlevel.checkpoint()
        if not self.works:
            self.failures += 1
            raise StreamsUnavailable("no server yet")
        self.sent += [payload for _, _, payload in commands if isinstance(payload, bytes)]
        return [0] * len(commands)

    def listen(self) -> NoReturn:
        raise StreamsUnavailable("no server at all")


async def test_p8_what_is_published_while_the_server_is_away_is_sent_in_order_when_it_is_back(
    events: Events, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Of a long outage only the newest messages are kept."""
    monkeypatch.setattr(subject, "OUTBOX_MESSAGES_MAX", 4)
    monkeypatch.setattr(subject, "BATCH_MESSAGES_MAX", 2)
    connection = Unreliable()
    pubsub = RedisPubSub(connection)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pubsub.run)
        for number in range(7):
            pubsub.publish("a", b"%d" % number)
            await trio.sleep(subject.RECONNECT_CAP_SECONDS)
        assert connection.failures > 5
        connection.works = True
        assert await events.wait_for("pubsub.dropped") == {"count": 3}
        await trio.testing.wait_all_tasks_blocked()
        assert connection.sent == [b"3", b"4", b"5", b"6"]
        nursery.cancel_scope.cancel()


async def test_what_is_published_while_a_batch_fails_comes_after_it_and_leaves_it_what_room_there_is(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(subject, "OUTBOX_MESSAGES_MAX", 4)
    connection = Unreliable()
    pubsub = RedisPubSub(connection)

    async def fail_as_more_comes(commands: Sequence[Command]) -> list[Reply]:
        monkeypatch.setattr(connection, "exchange", partial(Unreliable.exchange, connection))
        connection.works = True
        for payload in (b"4", b"5", b"6"):
            pubsub.publish("a", payload)
        raise StreamsUnavailable("just now")

    monkeypatch.setattr(connection, "exchange", fail_as_more_comes)
    async with trio.open_nursery() as nursery:
        for payload in (b"1", b"2", b"3"):
            pubsub.publish("a", payload)
        nursery.start_soon(pubsub.run)
        await trio.sleep(subject.RECONNECT_CAP_SECONDS)
        assert connection.sent == [b"3", b"4", b"5", b"6"]
        nursery.cancel_scope.cancel()


async def test_p3_whoever_enters_while_the_server_is_away_enters_at_once_and_gets_a_gap_when_it_is_back(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "CONFIRM_SECONDS", 3600.0)
    url = own_redis.start()
    own_redis.kill()
    async with replica(url) as pubsub:
        with trio.fail_after(60):
            entry = pubsub.subscribe("a")
            subscription = await entry.__aenter__()
        own_redis.start()
        assert await received(subscription) == [GAP]
        await ask(url, "PUBLISH", PREFIX + "a", "message")
        assert await received(subscription) == [b"message"]
        await entry.__aexit__(None, None, None)


async def test_p3_a_confirmation_that_is_late_becomes_a_gap(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "CONFIRM_SECONDS", 0.1)
    async with replica(own_redis.start()) as pubsub:
        with frozen(own_redis):
            entry = pubsub.subscribe("a")
            subscription = await entry.__aenter__()
            with pytest.raises(trio.WouldBlock):
                subscription.receive_nowait()
        assert await received(subscription) == [GAP]
        await entry.__aexit__(None, None, None)


async def test_p4_a_silent_server_is_given_up_and_found_again(
    own_redis: RedisServer, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PING_SECONDS", 0.05)
    monkeypatch.setattr(redis_module, "COMMANDS_SECONDS", 0.2)
    async with replica(own_redis.start()) as pubsub, pubsub.subscribe("a") as subscription:
        with frozen(own_redis):
            assert "ping" in str((await events.wait_for("pubsub.lost"))["error"])
        assert await received(subscription) == [GAP]
        await events.wait_for("pubsub.regained")


async def test_a_subscriber_that_leaves_while_it_waits_to_enter_leaves_nothing_behind(own_redis: RedisServer) -> None:
    url = own_redis.start()
    async with replica(url) as pubsub:
        with frozen(own_redis), trio.move_on_after(0.05) as scope:
            async with pubsub.subscribe("abandoned"):
                pytest.fail("nobody confirmed this subscription")
        assert scope.cancelled_caught
        async with pubsub.subscribe("other"):
            assert "wanted=1 followed=1" in repr(pubsub)
            assert await ask(url, "PUBSUB", "CHANNELS") == [b"chatcluster:here:0:other"]


async def test_a_connection_that_the_server_closes_is_made_again(empty_redis_url: str) -> None:
    async with replica(empty_redis_url) as pubsub, pubsub.subscribe("a") as subscription:
        assert await ask(empty_redis_url, "CLIENT", "KILL", "TYPE", "pubsub") == 1
        assert await received(subscription) == [GAP]


async def test_the_stand_in_for_redis_serves_as_well(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcluster.local.embedded.redis_server.find_redis", lambda: None)
    url = own_redis.start()
    async with replica(url) as here, replica(url) as there, there.subscribe("a", "b") as subscription:
        async with there.subscribe("a"):
            pass
        here.publish("a", b"1")
        here.publish("b", b"2")
        assert await received(subscription, 2) == [b"1", b"2"]


async def test_a_message_that_the_server_refuses_is_reported_and_does_not_stop_the_others(
    own_redis: RedisServer, events: Events
) -> None:
    url = own_redis.start()
    await ask(url, "ACL", "SETUSER", "default", "resetchannels", f"&{PREFIX}allowed")
    async with replica(url) as here, replica(url) as there, there.subscribe("allowed") as subscription:
        here.publish("forbidden", b"1")
        here.publish("allowed", b"2")
        assert await received(subscription) == [b"2"]
        assert (await events.wait_for("pubsub.refused"))["count"] == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_p3_nothing_is_missed_without_a_gap_however_readers_come_and_go_and_connections_break(
    empty_redis_url: str, seed: int
) -> None:
    """Numbered messages; each reader must get the next one, or a gap in the place of what it missed."""
    draw = random.Random(seed)
    published = entries = messages = gaps = 0

    async def read(pubsub: RedisPubSub) -> None:
        nonlocal entries, messages, gaps
        while True:
            async with pubsub.subscribe("numbers") as subscription:
                entries += 1
                next_at_most, last = published + 1, None
                for _ in range(draw.randrange(1, 40)):
                    message = await subscription.receive()
                    if isinstance(message, Gap):
                        gaps += 1
                        next_at_most, last = published + 1, None
                    else:
                        messages += 1
                        assert int(message) == last + 1 if last else int(message) <= next_at_most
                        last = int(message)

    async with (
        open_redis(empty_redis_url, cluster_id="here") as connection,
        replica(empty_redis_url) as pubsub,
        trio.open_nursery() as readers,
    ):
        for _ in range(3):
            readers.start_soon(read, pubsub)
        with trio.fail_after(60):
            while min(entries / 10, messages / 100, gaps) < 8:
                published += 1
                commands: list[Command] = [("PUBLISH", PREFIX + "numbers", published)]
                if draw.random() < 0.004:
                    commands.append(("CLIENT", "KILL", "TYPE", "pubsub"))
                await connection.exchange(commands)
        readers.cancel_scope.cancel()


# --- the switchboard: which gap is owed, and when -----------------------------------------------


def connected_switchboard(*inboxes: Inbox) -> Switchboard:
    switchboard = Switchboard()
    switchboard.connected()
    for inbox in inboxes:
        switchboard.add(inbox)
    return switchboard


def inbox_for(*channels: bytes) -> Inbox:
    return Inbox(frozenset(channels))


def test_each_channel_is_asked_for_once_however_many_want_it() -> None:
    switchboard = connected_switchboard(inbox_for(b"a"), inbox_for(b"a"))
    assert switchboard.changes() == ([], [b"a"])
    switchboard.add(inbox_for(b"a"))
    assert switchboard.changes() == ([], [])


def test_whoever_comes_and_goes_between_two_looks_costs_nothing() -> None:
    inbox = inbox_for(b"a")
    switchboard = connected_switchboard(inbox)
    switchboard.remove(inbox)
    assert switchboard.changes() == ([], [])


def test_p3_whoever_comes_while_a_subscribe_is_unanswered_waits_for_the_same_answer() -> None:
    first, second = inbox_for(b"a"), inbox_for(b"a")
    switchboard = connected_switchboard(first)
    switchboard.changes()
    switchboard.add(second)
    assert not second.settled.is_set()
    switchboard.confirmed(b"a")
    assert first.settled.is_set()
    assert second.settled.is_set()


def test_an_inbox_is_settled_by_its_last_confirmation_and_one_that_comes_later_at_once() -> None:
    early, late = inbox_for(b"a", b"b"), inbox_for(b"a", b"b")
    switchboard = connected_switchboard(early)
    switchboard.changes()
    switchboard.confirmed(b"a")
    assert not early.settled.is_set()
    switchboard.confirmed(b"b")
    assert early.settled.is_set()
    switchboard.add(late)
    assert late.settled.is_set()
    assert contents(early) == contents(late) == []


def test_p3_the_answer_to_an_earlier_subscribe_is_not_taken_for_that_to_the_last_one() -> None:
    """The server left the channel between the two: what it carried then is missed."""
    first, second = inbox_for(b"a"), inbox_for(b"a")
    switchboard = connected_switchboard(first)
    switchboard.changes()
    switchboard.remove(first)
    assert switchboard.changes() == ([b"a"], [])
    switchboard.add(second)
    assert switchboard.changes() == ([], [b"a"])
    switchboard.confirmed(b"a")
    assert not second.settled.is_set()
    switchboard.confirmed(b"a")
    assert second.settled.is_set()


def test_p3_the_answer_to_a_subscribe_that_is_being_taken_back_settles_nobody() -> None:
    first, second = inbox_for(b"a"), inbox_for(b"a")
    switchboard = connected_switchboard(first)
    switchboard.changes()
    switchboard.remove(first)
    switchboard.changes()
    switchboard.add(second)
    switchboard.confirmed(b"a")
    assert not second.settled.is_set()


def test_p3_after_a_loss_the_gap_comes_once_all_channels_are_confirmed_again() -> None:
    inbox = inbox_for(b"a", b"b")
    switchboard = connected_switchboard(inbox)
    switchboard.changes()
    switchboard.confirmed(b"a")
    switchboard.confirmed(b"b")
    switchboard.disconnected()
    assert contents(inbox) == []
    switchboard.connected()
    assert set(switchboard.changes().enter) == {b"a", b"b"}
    switchboard.confirmed(b"a")
    assert contents(inbox) == []
    switchboard.confirmed(b"b")
    assert contents(inbox) == [GAP]


def test_p3_a_loss_while_the_gap_of_the_previous_one_is_owed_still_ends_in_a_gap() -> None:
    inbox = inbox_for(b"a")
    switchboard = connected_switchboard(inbox)
    for _ in range(3):
        switchboard.changes()
        switchboard.disconnected()
        switchboard.connected()
    switchboard.changes()
    switchboard.confirmed(b"a")
    assert contents(inbox) == [GAP]


def test_p3_neither_more_messages_nor_another_gap_push_a_gap_out() -> None:
    inbox = inbox_for(b"a")
    for _ in range(3 * BUFFER_MESSAGES_MAX):
        inbox.put(b"message")
    kept = contents(inbox)
    assert kept[0] is GAP
    assert kept.count(GAP) == 1
    assert len(kept) <= BUFFER_MESSAGES_MAX


def test_a_loss_lets_in_whoever_waits_to_enter() -> None:
    inbox = inbox_for(b"a")
    switchboard = connected_switchboard(inbox)
    switchboard.disconnected()
    assert inbox.settled.is_set()
