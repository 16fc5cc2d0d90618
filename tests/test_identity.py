"""A cluster's ID: the same for all replicas on one database, and for no copy of it (P9, P10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import trio
from conftest import execute_sql, url_of_database

from chatcluster.config import Settings
from chatcluster.errors import SchemaError, StreamsUnavailable
from chatcluster.parts import START, OpenFrame, Position, frame
from chatcluster.postgres import Database, open_database
from chatcluster.postgres.identity import read_cluster_id, renew_cluster_id
from chatcluster.redis.connections import open_redis
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.streams import RedisStreams

pytestmark = pytest.mark.postgres

OPENING = frame(Position(1, 0), OpenFrame("worker", 1))


@asynccontextmanager
async def copy_of(postgres_url: str, database_url: str) -> AsyncIterator[str]:
    """The URL of a copy under another name on the same server, row by row."""
    name = f"copy_{uuid4().hex}"
    original = urlsplit(database_url).path.strip("/")
    await trio.to_thread.run_sync(execute_sql, postgres_url, f"CREATE DATABASE {name} TEMPLATE {original}")
    yield url_of_database(postgres_url, name)
    await trio.to_thread.run_sync(execute_sql, postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_every_replica_of_a_database_reads_the_same_id(database: Database, database_url: str) -> None:
    first = await read_cluster_id(database)
    assert len(first) == 16
    async with open_database(Settings.of(database_url=database_url)) as another:
        assert await read_cluster_id(another) == first


async def test_a_copy_of_a_database_is_another_cluster(postgres_url: str, database_url: str) -> None:
    """Although the copy has each row that the original has."""
    async with copy_of(postgres_url, database_url) as copied_url:
        ids = set()
        for url in (database_url, copied_url):
            async with open_database(Settings.of(database_url=url)) as database:
                ids.add(await read_cluster_id(database))
    assert len(ids) == 2


async def test_a_clone_of_a_disk_is_given_another_id(database: Database) -> None:
    before = await read_cluster_id(database)
    renewed = await renew_cluster_id(database)
    assert renewed != before
    assert await read_cluster_id(database) == renewed


async def test_an_identity_that_is_lost_or_never_was_is_said(database: Database, database_url: str) -> None:
    await trio.to_thread.run_sync(execute_sql, database_url, "DELETE FROM cluster_identity")
    with pytest.raises(SchemaError, match="new-id"):
        await read_cluster_id(database)
    assert await renew_cluster_id(database) == await read_cluster_id(database)
    await trio.to_thread.run_sync(execute_sql, database_url, "DROP TABLE cluster_identity")
    for ask in (read_cluster_id, renew_cluster_id):
        with pytest.raises(SchemaError, match="migrate"):
            await ask(database)


@pytest.mark.redis
@pytest.mark.parametrize("number", [0, 1])
async def test_clusters_on_one_redis_server_share_neither_streams_nor_messages(
    empty_redis_url: str, number: int
) -> None:
    """P9: not even where one has the other's chats; and channels know nothing of database numbers."""
    other_url = empty_redis_url.removesuffix("/0") + f"/{number}"
    other_id = "other" if number == 0 else "here"
    chat_id = uuid4()
    async with (
        open_redis(empty_redis_url, cluster_id="here") as here,
        open_redis(other_url, cluster_id=other_id) as there,
        trio.open_nursery() as nursery,
    ):
        mine, theirs = RedisPubSub(here), RedisPubSub(there)
        await nursery.start(mine.run)
        await nursery.start(theirs.run)
        async with mine.subscribe("channel") as subscription:
            theirs.publish("channel", b"theirs")
            await RedisStreams(there).open(chat_id, OPENING, trim=True)
            mine.publish("channel", b"mine")
            with trio.fail_after(60):
                assert await subscription.receive() == b"mine"
        assert await RedisStreams(here).read(chat_id, after=START, limit=1) == []
        nursery.cancel_scope.cancel()


@pytest.mark.redis
async def test_nothing_is_named_before_the_cluster_is_known(empty_redis_url: str) -> None:
    async with open_redis(empty_redis_url) as connection:
        streams = RedisStreams(connection)
        with pytest.raises(StreamsUnavailable, match="not known yet"):
            await streams.read(uuid4(), after=START, limit=1)
        connection.identify("here")
        assert await streams.read(uuid4(), after=START, limit=1) == []
