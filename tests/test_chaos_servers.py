"""What the chaos run does to real servers: locks, garbage, a clock that steps, a standby that takes over."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import trio
from chaos import garbage
from chaos.database import DatabaseError, hold, query
from chaos.failover import fail_over, follow, retire
from chaos.postgres_host import find_basebackup, find_faketime
from chaos.servers import Servers, open_servers

pytestmark = [pytest.mark.postgres, pytest.mark.redis]
SECONDS_MAX = 300.0
CHAT = uuid4()


@pytest.fixture
async def servers(servers_dir: Path, real_redis: None) -> AsyncIterator[Servers]:
    """Servers of one's own, as for a run with all faults."""
    directory = servers_dir / f"chaos-{uuid4().hex[:8]}"
    directory.mkdir(mode=0o755)
    with trio.fail_after(SECONDS_MAX):
        async with open_servers(directory, 1, ("clock", "failover"), ()) as servers:
            await servers.start()
            yield servers


async def numbers(servers: Servers) -> list[int]:
    return [row[0] for row in await query(servers.database_url, "select number from numbers order by number")]


@pytest.mark.skipif(find_basebackup() is None, reason="there is no pg_basebackup")
@pytest.mark.parametrize("seed", [0, 5])
async def test_a_failover_keeps_what_was_replicated_and_loses_what_came_after(servers: Servers, seed: int) -> None:
    await query(servers.database_url, "create table numbers (number int primary key)")
    await query(servers.database_url, "insert into numbers values (1)")
    standby, _ = await follow(servers)
    old = servers.postgres

    assert servers.wires is not None
    await servers.wires.silence("replication")
    await query(servers.database_url, "insert into numbers values (2)")
    await retire(await fail_over(servers, standby, random.Random(seed)))
    assert await numbers(servers) == [1]
    assert servers.postgres is standby
    assert old is not None
    assert old.pid is None
    await query(servers.database_url, "insert into numbers values (7)")


@pytest.mark.skipif(find_faketime() is None, reason="there is no libfaketime")
async def test_the_databases_clock_steps_and_no_other(servers: Servers) -> None:
    servers.set_clock(3600)

    async def is_ahead() -> bool:
        ((now,),) = await query(servers.database_url, "select clock_timestamp()")
        return bool(now - datetime.now(UTC) > timedelta(minutes=50))

    while not await is_ahead():  # noqa: ASYNC110 - the server looks once a second
        await trio.sleep(0.05)
    servers.set_clock(0)
    while await is_ahead():  # noqa: ASYNC110
        await trio.sleep(0.05)


async def test_a_row_is_held_until_the_session_lets_go(servers: Servers) -> None:
    url = servers.database_url
    await query(url, "create table numbers (number int)")
    await query(url, "insert into numbers values (1)")
    locked = "select number from numbers for update nowait"

    async def try_it() -> None:
        with pytest.raises(DatabaseError, match="LockNotAvailable"):
            await query(url, locked)

    async with trio.open_nursery() as nursery:
        held = lambda: nursery.start_soon(try_it)  # noqa: E731
        assert await hold(url, "select number from numbers for update", seconds=3.0, held=held) == 1
    assert await query(url, locked) == [(1,)]


@pytest.mark.parametrize("seed", range(8))
async def test_garbage_goes_into_the_streams_of_one_chat_and_leaves_the_others(servers: Servers, seed: int) -> None:
    with redis.Redis.from_url(servers.redis_url) as connection:
        mine, other = f"x:{{{CHAT}}}:parts", f"x:{{{uuid4()}}}:parts"
        for key in (mine, other):
            connection.xadd(key, {"kind": "open"}, id="3-0")
        what = await garbage.into_redis(servers, str(CHAT), random.Random(seed))
        assert " in 1 streams" in what
        assert connection.xrange(other) == [(b"3-0", {b"kind": b"open"})]
        assert connection.type(mine) == b"string" or connection.xlen(mine) > 1
