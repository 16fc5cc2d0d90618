"""What is read, again and again: everything that could grow without end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import redis
import trio
from chaos.database import query
from chaos.fleet import Fleet
from chaos.servers import Servers

MEGA = 1 << 20
TABLES = """
select relname, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, n_tup_ins
from pg_stat_user_tables order by relname
"""
DUE = """
select
    (select count(*) from messages where deleted_at is not null),
    (select count(*) from tokens where revoked_at is not null),
    (select count(*) from idempotency_keys)
"""
DUE_NAMES = ("messages that were edited away", "tokens that were revoked", "idempotency keys")

Sample = dict[str, float]


async def read_gauges(fleet: Fleet, servers: Servers, began: float) -> Sample:
    """All gauges at one moment, by their names."""
    sample: Sample = {"seconds": round(time.monotonic() - began, 1)}
    for replica in sorted(fleet.replicas, key=lambda replica: replica.name):
        sample |= _process(replica.name, await fleet.process(replica))
    for name, table, indexes, live, dead, inserted in await query(servers.database_url, TABLES):
        sample |= {
            f"{name} table MB": round(table / MEGA, 2),
            f"{name} indexes MB": round(indexes / MEGA, 2),
            f"{name} live rows": live,
            f"{name} dead rows": dead,
            f"{name} rows inserted": inserted,
        }
    (due,) = await query(servers.database_url, DUE)
    sample |= dict(zip(DUE_NAMES, due, strict=True))
    return sample | await trio.to_thread.run_sync(_redis, servers.redis_url)


def _process(name: str, pid: int) -> Sample:
    directory = Path(f"/proc/{pid}")
    pages = int((directory / "statm").read_text().split()[1])
    return {
        f"{name} memory MB": round(pages * 4096 / MEGA, 1),
        f"{name} files": len(list((directory / "fd").iterdir())),
    }


def _redis(url: str) -> Sample:
    with redis.Redis.from_url(url) as connection:
        memory: dict[str, Any] = connection.info("memory")
        return {"redis keys": int(connection.dbsize()), "redis memory MB": round(memory["used_memory"] / MEGA, 2)}
