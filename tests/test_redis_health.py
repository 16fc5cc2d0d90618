"""What a Redis server refuses is said, with what to do about it, and is not asked for again and again (P10)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import trio
from redis_faults import frozen

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.errors import StreamRefused, StreamsMisconfigured, StreamsUnavailable
from chatcluster.local.embedded import RedisServer
from chatcluster.parts import START, OpenFrame, Position, frame
from chatcluster.redis import connections as redis_module
from chatcluster.redis import health as subject
from chatcluster.redis import pubsub as pubsub_module
from chatcluster.redis.connections import RedisConnection, open_redis
from chatcluster.redis.errors import CHANNELS, COMMANDS, KEYS, ErrorReply, refusal
from chatcluster.redis.health import RedisHealth
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.streams import RedisStreams

pytestmark = pytest.mark.redis

ROOT = Path(__file__).parents[1]
OPENING = frame(Position(1, 0), OpenFrame("worker", 1))


@pytest.fixture
def told() -> Iterator[list[tuple[str, dict[str, object]]]]:
    """What was reported."""
    events: list[tuple[str, dict[str, object]]] = []

    def hear(name: str, fields: dict[str, object]) -> None:
        events.append((name, fields))

    telemetry.subscribe(hear)
    yield events
    telemetry.unsubscribe(hear)


@asynccontextmanager
async def health_of(url: str) -> AsyncIterator[tuple[RedisConnection, RedisPubSub, RedisHealth]]:
    """A replica's pub/sub, which follows a channel, and its health."""
    async with open_redis(url, cluster_id="here") as connection, trio.open_nursery() as nursery:
        pubsub = RedisPubSub(connection)
        await nursery.start(pubsub.run)
        async with pubsub.subscribe("a"):
            yield connection, pubsub, RedisHealth(connection, lambda: pubsub.problem)
        nursery.cancel_scope.cancel()


async def say(url: str, *lines: str) -> None:
    """As an administrator does, who sees what is refused."""
    async with open_redis(url) as connection:
        assert await connection.exchange([tuple(line.split()) for line in lines]) == [b"OK"] * len(lines)


async def set_user(url: str, *rules: str) -> str:
    """A user of these rules, and the URL by which it comes."""
    await say(url, " ".join(["ACL SETUSER chat on >secret", *rules]))
    return "redis://chat:secret@" + url.partition("@")[2]


async def test_a_server_that_does_all_that_is_needed_is_ok(own_redis: RedisServer) -> None:
    async with health_of(own_redis.start()) as (connection, _, health):
        assert await health.check() == "ok"
        assert await connection.exchange([("DBSIZE",)]) == [0]


@pytest.mark.parametrize(
    ("missing", "rule"),
    [("resetchannels", CHANNELS), ("resetkeys", KEYS)]
    + [(missing, COMMANDS) for missing in ("-publish", "-subscribe", "-xadd", "-multi")],
)
async def test_a_user_without_a_permission_is_told_which_one_and_the_line_that_grants_it(
    own_redis: RedisServer, missing: str, rule: str
) -> None:
    url = await set_user(own_redis.start(), "~*", "&*", "+@all", missing)
    async with health_of(url) as (_, _, health):
        found = await health.check()
    assert found.startswith("degraded: Redis: NOPERM")
    assert found.endswith(f"; grant it: ACL SETUSER chat {rule}")


@pytest.mark.parametrize(
    "begins", [("resetchannels",), ("~*",), ("+@all",), ("~*", "&*", "+@all", "-publish"), ()], ids=" ".join
)
async def test_the_lines_that_are_told_grant_all_that_is_needed(
    own_redis: RedisServer, begins: tuple[str, ...]
) -> None:
    """Whatever the user may do at first; what that is, is another thing in Redis 6.2 and 7."""
    admin = own_redis.start()
    url = await set_user(admin, *begins)
    for _ in ("commands", "keys", "channels"):
        async with health_of(url) as (_, _, health):
            told = await health.check()
        if told != "ok":
            await say(admin, told.partition("grant it: ")[2])
    async with health_of(url) as (connection, _, health):
        assert await health.check() == "ok"
        assert await RedisStreams(connection).read(uuid4(), after=START, limit=1) == []


async def test_the_line_of_the_documentation_makes_a_user_who_may_do_all_that_is_needed(own_redis: RedisServer) -> None:
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    (line,) = {
        " ".join(found.split())
        for document in documents
        for found in re.findall(r"`(ACL SETUSER chat [^`]*)`", document.read_text())
    }
    admin = own_redis.start()
    await say(admin, line)
    async with health_of("redis://chat:secret@" + admin.partition("@")[2]) as (_, _, health):
        assert await health.check() == "ok"


async def test_a_server_that_lets_nobody_listen_is_asked_seldom_and_more_seldom(
    own_redis: RedisServer, told: list[tuple[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is made is no success: only an answer is."""
    url = await set_user(own_redis.start(), "~*", "resetchannels", "+@all")
    waits: list[float] = []
    enough = trio.Event()

    next_seconds = Backoff.next_seconds

    def at_once(backoff: Backoff) -> float:
        waits.append(next_seconds(backoff))
        if len(waits) == 12:
            enough.set()
        return 0.0 if len(waits) < 12 else waits[-1]

    monkeypatch.setattr(Backoff, "next_seconds", at_once)
    async with health_of(url) as (_, pubsub, _):
        with trio.fail_after(60):
            await enough.wait()
        assert "NOPERM" in pubsub.problem
    assert waits == sorted(waits)
    assert waits[-1] == pubsub_module.MISCONFIGURED_CAP_SECONDS
    assert [name for name, _ in told].count("pubsub.lost") == 1


async def test_a_server_that_is_full_or_may_evict_is_reported_once(
    own_redis: RedisServer, told: list[tuple[str, dict[str, object]]], nursery: trio.Nursery
) -> None:
    async with health_of(own_redis.start()) as (connection, _, health):
        await connection.exchange([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")])
        for _ in range(3):
            await health._look()
        assert await health.check() == "ok"
        await connection.exchange([("CONFIG", "SET", "maxmemory-policy", "noeviction")])
        await connection.exchange([("CONFIG", "SET", "maxmemory", "1")])
        assert "maxmemory; parts pause" in await health.check()
        with pytest.raises(StreamsUnavailable, match="maxmemory"):
            await RedisStreams(connection).open(uuid4(), OPENING, trim=True)
    assert [fields["policy"] for name, fields in told if name == "redis.may_evict"] == ["allkeys-lru"]


async def test_what_is_wrong_is_reported_when_it_changes(
    own_redis: RedisServer, told: list[tuple[str, dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "CHECK_SECONDS", 0.0)
    url = own_redis.start()
    looks = 0
    enough = trio.Event()
    async with health_of(url) as (connection, _, health), trio.open_nursery() as nursery:
        check = health.check

        async def count() -> str:
            nonlocal looks
            looks += 1
            if looks == 4:
                await connection.exchange([("CONFIG", "SET", "maxmemory", "0")])
            if looks == 8:
                enough.set()
            return await check()

        monkeypatch.setattr(health, "check", count)
        await connection.exchange([("CONFIG", "SET", "maxmemory", "1")])
        nursery.start_soon(health.run)
        with trio.fail_after(60):
            await enough.wait()
        nursery.cancel_scope.cancel()
    names = [name for name, _ in told if name.startswith("redis.")]
    assert names == ["redis.degraded", "redis.recovered"]


@pytest.mark.parametrize(
    ("server", "told_of_it"),
    [
        ({"redis_version": "6.0.16"}, "too old"),
        ({"redis_version": "5"}, ""),
        ({"redis_version": "7.0.15", "redis_mode": "cluster"}, "Cluster"),
        ({"redis_version": "7.2.4", "redis_mode": "standalone"}, ""),
        ({}, ""),
    ],
)
def test_what_a_server_says_of_itself(server: dict[str, str], told_of_it: str) -> None:
    assert told_of_it in subject._unfit(server)
    assert bool(subject._unfit(server)) is bool(told_of_it)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((f"{code} something", StreamsMisconfigured) for code in ("NOPERM", "NOAUTH", "WRONGPASS", "CROSSSLOT")),
        ("MOVED 3999 127.0.0.1:6381", StreamsMisconfigured),
        ("MOVED", StreamsMisconfigured),
        ("CLUSTERDOWN Hash slot not served", StreamsMisconfigured),
        ("ERR DB index is out of range", StreamsMisconfigured),
        *(
            (f"{code} something", StreamsUnavailable)
            for code in ("OOM", "LOADING", "READONLY", "MISCONF", "MASTERDOWN")
        ),
        *((f"{code} something", StreamsUnavailable) for code in ("BUSY", "NOREPLICAS", "TRYAGAIN")),
        ("ERR max number of clients reached", StreamsUnavailable),
        ("WRONGTYPE Operation against a key", StreamRefused),
        ("UNHEARDOF", StreamRefused),
        ("", StreamRefused),
        ("\ufffd" * 100_000, StreamRefused),
    ],
)
def test_every_error_that_redis_replies_is_one_of_ours(text: str, kind: type[Exception]) -> None:
    error = refusal(ErrorReply(text))
    assert type(error) is kind
    assert len(str(error)) < 1000


async def test_connections_that_died_without_a_word_cost_one_deadline_together(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: a middlebox forgot them all at once; the batch after the first that failed has a new one."""
    async with open_redis(own_redis.start()) as connection:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(connection.exchange, [("PING",)])
        assert "idle=4" in repr(connection)
        with frozen(own_redis), monkeypatch.context() as deadline:
            deadline.setattr(redis_module, "COMMANDS_SECONDS", 0.2)
            with pytest.raises(StreamsUnavailable):
                await connection.exchange([("PING",)])
        assert "idle=0" in repr(connection)
        assert await connection.exchange([("PING",)]) == [b"PONG"]


def test_silence_costs_less_than_two_seconds_and_a_stall_of_one_is_waited_for() -> None:
    worst = redis_module.PING_SECONDS * (redis_module.UNANSWERED_PINGS_MAX + 1)
    least = redis_module.PING_SECONDS * redis_module.UNANSWERED_PINGS_MAX
    assert 1.0 < least < worst < 2.0
    assert 1.0 < redis_module.COMMANDS_SECONDS < 2.0
