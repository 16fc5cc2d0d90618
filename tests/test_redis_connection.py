"""The connection to Redis: batches, deadlines, and what is left behind by one that was cut short."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
import trio
import trio.testing
from redis_faults import frozen

from chatcluster.errors import ConfigError, StreamsUnavailable
from chatcluster.local.embedded import RedisServer
from chatcluster.redis import connections as subject
from chatcluster.redis.connections import RedisConnection, open_redis
from chatcluster.redis.errors import ErrorReply


@pytest.fixture
async def connection(empty_redis_url: str) -> AsyncIterator[RedisConnection]:
    async with open_redis(empty_redis_url) as opened:
        yield opened


async def test_a_batch_is_answered_in_order_and_an_error_is_a_value(connection: RedisConnection) -> None:
    replies = await connection.exchange([("SET", "a", 1), ("LPOP", "a"), ("GET", "a"), ("GET", "none")])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], ErrorReply)
    assert replies[2:] == [b"1", None]


async def test_an_empty_batch_needs_no_server() -> None:
    async with open_redis("redis://127.0.0.1:1/0") as connection:
        assert await connection.exchange([]) == []


async def test_a_transaction_gives_the_replies_of_its_commands(connection: RedisConnection) -> None:
    first, second = await connection.transactions(
        [[("SET", "a", 1), ("LPOP", "a"), ("GET", "a")], [("INCR", "a")]],
    )
    assert isinstance(first, list)
    set_reply, error, get_reply = first
    assert (set_reply, get_reply) == (b"OK", b"1")
    assert isinstance(error, ErrorReply)
    assert second == [2]


async def test_a_transaction_that_cannot_be_queued_does_nothing_and_stops_no_other(connection: RedisConnection) -> None:
    before, refused, after = await connection.transactions(
        [[("INCR", "n")], [("SET", "a", 1), ("NOSUCHCOMMAND",)], [("INCR", "n")]]
    )
    assert (before, after) == ([1], [2])
    assert isinstance(refused, ErrorReply)
    assert await connection.exchange([("GET", "a")]) == [None]


async def test_without_a_server_the_block_is_entered_and_commands_are_unavailable() -> None:
    async with open_redis("redis://127.0.0.1:1/0") as connection:
        with pytest.raises(StreamsUnavailable):
            await connection.exchange([("PING",)])
        with pytest.raises(StreamsUnavailable):
            async with connection.listen():
                pytest.fail("there is nothing to listen to")


@pytest.mark.parametrize("user", ["", "default", "nobody"])
async def test_a_wrong_password_is_unavailable_and_not_shown(empty_redis_url: str, user: str) -> None:
    host = empty_redis_url.partition("@")[2]
    async with open_redis(f"redis://{user}:not-the-secret@{host}") as connection:
        with pytest.raises(StreamsUnavailable, match="Redis refuses AUTH: WRONGPASS invalid") as caught:
            await connection.exchange([("PING",)])
        assert "not-the-secret" not in str(caught.value)
        assert "not-the-secret" not in repr(connection)


async def test_a_server_that_wants_a_password_says_so(empty_redis_url: str) -> None:
    async with open_redis("redis://" + empty_redis_url.partition("@")[2]) as connection:
        with pytest.raises(StreamsUnavailable, match=r"NOAUTH .* \(give the password in the Redis URL"):
            await connection.exchange([("PING",)])


async def test_a_connection_is_its_users_in_the_database_of_the_url_and_has_a_name(own_redis: RedisServer) -> None:
    url = own_redis.start()
    host = url.partition("@")[2].partition("/")[0]
    async with open_redis(url) as connection:
        await connection.exchange([("ACL", "SETUSER", "alice", "on", ">wonder:land", "~*", "+@all")])
        assert await connection.exchange([("CLIENT", "GETNAME"), ("ACL", "WHOAMI")]) == [b"chatcluster", b"default"]
    async with open_redis(f"redis://alice:wonder%3Aland@{host}/3?client_name=hatter") as connection:
        name, user, info = await connection.exchange([("CLIENT", "GETNAME"), ("ACL", "WHOAMI"), ("CLIENT", "INFO")])
        assert (name, user) == (b"hatter", b"alice")
        assert isinstance(info, bytes)
        assert b" db=3 " in info


async def test_a_user_who_may_not_give_names_does_without(own_redis: RedisServer) -> None:
    url = own_redis.start()
    async with open_redis(url) as connection:
        await connection.exchange([("ACL", "SETUSER", "bob", "on", ">secret", "+ping")])
    async with open_redis(f"redis://bob:secret@{url.partition('@')[2]}") as connection:
        assert await connection.exchange([("PING",)]) == [b"PONG"]


async def test_a_database_that_the_server_does_not_have_is_unavailable(empty_redis_url: str) -> None:
    async with open_redis(empty_redis_url.removesuffix("/0") + "/1000") as connection:
        with pytest.raises(StreamsUnavailable, match="Redis refuses SELECT: ERR DB index is out of range"):
            await connection.exchange([("PING",)])


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost"])
async def test_a_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="Redis URL"):
        async with open_redis(url):
            pytest.fail("this URL leads nowhere")


async def test_a_frozen_server_is_unavailable_in_time_and_its_late_reply_goes_to_nobody(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_redis(own_redis.start()) as connection:
        await connection.exchange([("PING",)])
        with frozen(own_redis), monkeypatch.context() as deadline:
            deadline.setattr(subject, "COMMANDS_SECONDS", 0.2)
            with trio.fail_after(60), pytest.raises(StreamsUnavailable, match=r"within 0\.2 s"):
                await connection.exchange([("ECHO", "late"), ("ECHO", "later")])
        assert await connection.exchange([("ECHO", "new")]) == [b"new"]


async def test_cancelling_a_batch_leaves_no_reply_for_the_next_one(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.start()) as connection:
        await connection.exchange([("PING",)])
        with frozen(own_redis), trio.move_on_after(0.05) as scope:
            await connection.exchange([("ECHO", "cancelled")])
        assert scope.cancelled_caught
        assert await connection.exchange([("ECHO", "new")]) == [b"new"]


async def test_cancelling_a_batch_closes_its_connection_and_frees_its_place(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.start()) as connection:
        for _ in range(subject.POOL_CONNECTIONS_MAX):
            with frozen(own_redis), trio.move_on_after(0.01):
                await connection.exchange([("PING",)])
        assert repr(connection) == "<RedisConnection idle=0 busy=0>"
        assert await connection.exchange([("PING",)]) == [b"PONG"]
        assert repr(connection) == "<RedisConnection idle=1 busy=0>"


async def test_a_batch_that_waits_for_a_connection_may_be_cancelled(own_redis: RedisServer) -> None:
    async with open_redis(own_redis.start()) as connection:
        with frozen(own_redis):
            async with trio.open_nursery() as nursery:
                for _ in range(2 * subject.POOL_CONNECTIONS_MAX):
                    nursery.start_soon(connection.exchange, [("PING",)])
                await trio.testing.wait_all_tasks_blocked()
                assert repr(connection) == f"<RedisConnection idle=0 busy={subject.POOL_CONNECTIONS_MAX}>"
                nursery.cancel_scope.cancel()
        assert repr(connection) == "<RedisConnection idle=0 busy=0>"
        assert await connection.exchange([("PING",)]) == [b"PONG"]


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


async def test_a_name_that_does_not_resolve_in_time_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "COMMANDS_SECONDS", 0.2)
    release = threading.Event()

    def resolve(host: str, port: int, family: int, kind: int, protocol: int, flags: int) -> list[object]:
        if flags & socket.AI_NUMERICHOST:  # asked for first, and not in a thread, as it takes no time
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        async with open_redis("redis://redis.invalid:6379/0") as connection:
            with trio.fail_after(60), pytest.raises(StreamsUnavailable):
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
        with frozen(own_redis), trio.fail_after(60), given_up:
            await listener.run(lambda _: None)


async def test_a_listeners_silence_takes_the_idle_connections_with_it(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: they are likely to have died with it, and each would cost the next batch its whole deadline."""
    monkeypatch.setattr(subject, "PING_SECONDS", 0.05)
    async with open_redis(own_redis.start()) as connection:
        before = await connection.exchange([("CLIENT", "ID")])
        async with connection.listen() as listener:
            with frozen(own_redis), trio.fail_after(60), pytest.RaisesGroup(StreamsUnavailable):
                await listener.run(lambda _: None)
        assert await connection.exchange([("CLIENT", "ID")]) != before


async def test_a_listener_with_nothing_to_hear_stays(own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PING_SECONDS", 0.3)  # so many times that is what a busy machine may need to answer
    pongs: list[object] = []
    enough = trio.Event()

    def hear(reply: object) -> None:
        pongs.append(reply)
        if len(pongs) > subject.UNANSWERED_PINGS_MAX + 1:
            enough.set()

    async with (
        open_redis(own_redis.start()) as connection,
        connection.listen() as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listener.run, hear)
        with trio.fail_after(60):
            await enough.wait()
        nursery.cancel_scope.cancel()


async def test_a_listener_lets_others_run_amid_a_burst(
    connection: RedisConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "REPLIES_PER_TURN_MAX", 4)
    heard = 0
    following, over = trio.Event(), trio.Event()
    seen = {0}

    def hear(reply: object) -> None:
        nonlocal heard
        match reply:
            case [b"subscribe", *_]:
                following.set()
            case [b"message", *_]:
                heard += 1
                if heard == 60:
                    over.set()

    async with connection.listen() as listener, trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, hear)
        await listener.send([("SUBSCRIBE", "channel")])
        await following.wait()
        nursery.start_soon(connection.exchange, [("PUBLISH", "channel", "hint")] * 60)
        while not over.is_set():
            await trio.lowlevel.checkpoint()
            seen.add(heard)
        nursery.cancel_scope.cancel()
    between_two_looks = [later - earlier for earlier, later in pairwise(sorted(seen))]
    # Each of two tasks runs once in a turn of the loop, first or second.
    assert max(between_two_looks) <= 2 * subject.REPLIES_PER_TURN_MAX


async def test_a_listener_whose_command_is_refused_ends(connection: RedisConnection) -> None:
    refused = pytest.RaisesGroup(pytest.RaisesExc(StreamsUnavailable, match="NOSUCHCOMMAND"))
    async with connection.listen() as listener:
        await listener.send([("NOSUCHCOMMAND",)])
        with trio.fail_after(60), refused:
            await listener.run(lambda _: None)


async def test_a_listener_whose_connection_is_lost_ends(connection: RedisConnection) -> None:
    lost = pytest.RaisesGroup(
        pytest.RaisesExc(StreamsUnavailable, match="closed the connection"), flatten_subgroups=True
    )
    answered = trio.Event()
    with trio.fail_after(60), lost:
        async with connection.listen() as listener, trio.open_nursery() as nursery:
            nursery.start_soon(listener.run, lambda _: answered.set())
            await answered.wait()
            await connection.exchange([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])


async def test_what_several_send_through_a_listener_does_not_mix(own_redis: RedisServer) -> None:
    """A server that reads slowly leaves each of them half sent for a while."""
    payloads = {letter * 5_000_000 for letter in (b"a", b"b")}
    echoes: set[bytes] = set()
    over = trio.Event()

    def hear(reply: object) -> None:
        if isinstance(reply, bytes) and reply != b"PONG":
            echoes.add(reply)
            if len(echoes) == len(payloads):
                over.set()

    async with open_redis(own_redis.start()) as connection, connection.listen() as listener:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                with frozen(own_redis):
                    for payload in payloads:
                        nursery.start_soon(listener.send, [("ECHO", payload)])
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(listener.run, hear)
                await over.wait()
                nursery.cancel_scope.cancel()
    assert echoes == payloads
