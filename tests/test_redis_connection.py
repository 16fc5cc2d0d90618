"""The connection to Redis: batches, deadlines, and what is left behind by one that was cut short."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator

import pytest
import trio
from redis_faults import frozen

from chatcluster import redis as subject
from chatcluster.embedded import RedisServer
from chatcluster.errors import ConfigError, StreamsUnavailable
from chatcluster.redis import ErrorReply, RedisConnection, open_redis


@pytest.fixture
async def connection(empty_redis_url: str) -> AsyncIterator[RedisConnection]:
    async with open_redis(empty_redis_url) as opened:
        yield opened


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "COMMANDS_SECONDS", 0.2)


async def test_a_batch_is_answered_in_order_and_an_error_is_a_value(connection: RedisConnection) -> None:
    replies = await connection.exchange([("SET", "a", 1), ("LPOP", "a"), ("GET", "a"), ("GET", "none")])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], ErrorReply)
    assert replies[2:] == [b"1", None]


async def test_an_empty_batch_needs_no_server() -> None:
    async with open_redis("redis://127.0.0.1:1/0") as connection:
        assert await connection.exchange([]) == []


async def test_a_transaction_gives_the_replies_of_its_commands(connection: RedisConnection) -> None:
    set_reply, error, get_reply = await connection.transaction([("SET", "a", 1), ("LPOP", "a"), ("GET", "a")])
    assert (set_reply, get_reply) == (b"OK", b"1")
    assert isinstance(error, ErrorReply)


async def test_a_transaction_that_cannot_be_queued_does_nothing(connection: RedisConnection) -> None:
    with pytest.raises(StreamsUnavailable, match="refused a transaction"):
        await connection.transaction([("SET", "a", 1), ("NOSUCHCOMMAND",)])
    assert await connection.exchange([("GET", "a")]) == [None]


async def test_without_a_server_the_block_is_entered_and_commands_are_unavailable() -> None:
    async with open_redis("redis://127.0.0.1:1/0") as connection:
        with pytest.raises(StreamsUnavailable):
            await connection.exchange([("PING",)])
        with pytest.raises(StreamsUnavailable):
            async with connection.listen():
                pytest.fail("there is nothing to listen to")


async def test_a_wrong_password_is_unavailable_and_not_shown(empty_redis_url: str) -> None:
    host = empty_redis_url.partition("@")[2]
    async with open_redis(f"redis://:not-the-secret@{host}") as connection:
        with pytest.raises(StreamsUnavailable) as caught:
            await connection.exchange([("PING",)])
        assert "not-the-secret" not in str(caught.value)
        assert "not-the-secret" not in repr(connection)


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost"])
async def test_a_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="Redis URL"):
        async with open_redis(url):
            pytest.fail("this URL leads nowhere")


async def test_a_frozen_server_is_unavailable_in_time_and_its_late_reply_goes_to_nobody(
    own_redis: RedisServer, short_deadline: None
) -> None:
    async with open_redis(own_redis.start()) as connection:
        await connection.exchange([("PING",)])
        with frozen(own_redis), trio.fail_after(1), pytest.raises(StreamsUnavailable, match=r"within 0\.2 s"):
            await connection.exchange([("ECHO", "late"), ("ECHO", "later")])
        assert await connection.exchange([("ECHO", "new")]) == [b"new"]


async def test_cancelling_a_batch_leaves_no_reply_for_the_next_one(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.start()) as connection:
        await connection.exchange([("PING",)])
        with frozen(own_redis), trio.move_on_after(0.05) as scope:
            await connection.exchange([("ECHO", "cancelled")])
        assert scope.cancelled_caught
        assert await connection.exchange([("ECHO", "new")]) == [b"new"]


async def test_more_batches_than_connections_wait_for_each_other(connection: RedisConnection) -> None:
    answers: set[int] = set()

    async def echo(number: int) -> None:
        (reply,) = await connection.exchange([("ECHO", number)])
        assert isinstance(reply, bytes)
        answers.add(int(reply))

    async with trio.open_nursery() as nursery:
        for number in range(3 * subject.POOL_CONNECTIONS_MAX):
            nursery.start_soon(echo, number)
    assert answers == set(range(3 * subject.POOL_CONNECTIONS_MAX))
    (clients,) = await connection.exchange([("CLIENT", "LIST", "TYPE", "normal")])
    assert isinstance(clients, bytes)
    assert clients.count(b"\n") <= subject.POOL_CONNECTIONS_MAX


async def test_a_batch_that_breaks_off_is_not_sent_again(connection: RedisConnection) -> None:
    """The server counts, then closes the connection without the last reply, as often as it is asked to."""
    kill_myself = ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")
    with pytest.raises(StreamsUnavailable):
        await connection.exchange([("INCR", "count"), kill_myself, ("PING",)])
    assert await connection.exchange([("GET", "count")]) == [b"1"]


async def test_after_a_restart_the_next_batch_connects_anew(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.start()) as connection:
        await connection.exchange([("PING",)])
        own_redis.kill()
        with pytest.raises(StreamsUnavailable):
            await connection.exchange([("PING",)])
        own_redis.start()
        assert await connection.exchange([("PING",)]) == [b"PONG"]


async def test_a_server_that_has_become_a_replica_is_left(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.start()) as connection:
        (own_id, _) = await connection.exchange([("CLIENT", "ID"), ("REPLICAOF", "127.0.0.1", 1)])
        with pytest.raises(StreamsUnavailable, match="read only"):
            await connection.exchange([("SET", "a", 1)])
        assert await connection.exchange([("CLIENT", "ID")]) != [own_id]


async def test_a_name_that_does_not_resolve_in_time_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, short_deadline: None
) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait() and [])
    try:
        async with open_redis("redis://redis.invalid:6379/0") as connection:
            with trio.fail_after(1), pytest.raises(StreamsUnavailable):
                await connection.exchange([("PING",)])
    finally:
        release.set()


async def test_a_listener_that_hears_nothing_gives_itself_up(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: a cut network closes no connection; silence is noticed all the same."""
    monkeypatch.setattr(subject, "PING_SECONDS", 0.05)
    async with open_redis(own_redis.start()) as connection, connection.listen() as listener:
        given_up = pytest.RaisesGroup(pytest.RaisesExc(StreamsUnavailable, match="pings"))
        with frozen(own_redis), trio.fail_after(1), given_up:
            await listener.run(lambda _: None)


async def test_a_listener_with_nothing_to_hear_stays(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PING_SECONDS", 0.02)
    pongs: list[object] = []
    enough = trio.Event()

    def hear(reply: object) -> None:
        pongs.append(reply)
        if len(pongs) > 3 * subject.UNANSWERED_PINGS_MAX:
            enough.set()

    async with (
        open_redis(own_redis.start()) as connection,
        connection.listen() as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listener.run, hear)
        with trio.fail_after(2):
            await enough.wait()
        nursery.cancel_scope.cancel()
