"""A failover that loses transactions: the primary is gone, its asynchronous standby takes over without the last of it.

The order: a standby is made and follows; **what is acknowledged until here is on it**; it is cut off for a moment, in
which the primary goes on alone; the primary goes; the standby is promoted, and the address of the database leads there.
How the primary goes is left to chance: it is killed; or it falls silent, with all that is open to it; or it lives on as
a server that refuses writes, and keeps what is open.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import trio

from chaos.database import query
from chaos.postgres_host import PostgresHost
from chaos.servers import REPLICATION, Servers

WAYS = ("killed", "silent", "demoted")
LAG_SECONDS = (0.1, 1.0)
FOLLOW_SECONDS_MAX = 15.0
PROMOTE_SECONDS_MAX = 30
DEMOTED_SECONDS = 3.0
POLL_SECONDS = 0.02
FOLLOWING = "select count(*) > 0 and bool_and(flush_lsn >= $1::text::pg_lsn) from pg_stat_replication"
READ_ONLY = "alter system set default_transaction_read_only = on"


class Failover(NamedTuple):
    """``moved`` is when clients could reach the new primary; ``old`` is the one before, which ``retire`` ends."""

    way: str
    lag_seconds: float
    moved: float
    old: PostgresHost | None


async def fail_over(servers: Servers, standby: PostgresHost, draw: random.Random) -> Failover:
    """From the moment at which the standby is cut off. Raises ``RuntimeError`` if it cannot be promoted."""
    wires, primary_url = servers.wires, servers.database_url
    assert wires is not None
    assert servers.postgres is not None
    way, lag_seconds = draw.choice(WAYS), draw.uniform(*LAG_SECONDS)
    await wires.silence(REPLICATION)
    await trio.sleep(lag_seconds)
    with trio.CancelScope(shield=True):  # bounded; half a failover would leave two databases
        if way == "killed":
            await trio.to_thread.run_sync(servers.postgres.kill)
        elif way == "silent":
            await wires.silence("postgres")
        else:
            await query(primary_url, READ_ONLY)
            await query(primary_url, "select pg_reload_conf()")
        promoted_url = await trio.to_thread.run_sync(standby.start)  # it runs: that is its URL
        await query(promoted_url, "select pg_promote(true, $1)", PROMOTE_SECONDS_MAX)
        old = await servers.promoted(standby)
    return Failover(way, lag_seconds, trio.current_time(), old)


async def retire(failover: Failover) -> None:
    """End the old primary, if it is still there; one that was demoted may be so for a while."""
    try:
        if failover.way == "demoted":
            await trio.sleep(DEMOTED_SECONDS)
    finally:
        with trio.CancelScope(shield=True):  # a kill is bounded
            if failover.old is not None:
                await trio.to_thread.run_sync(failover.old.discard)


async def follow(servers: Servers) -> tuple[PostgresHost, float]:
    """A standby that has all that was acknowledged before a moment, and that moment.

    Raises ``RuntimeError`` if it does not follow.
    """
    standby = await servers.copy_postgres()
    try:
        moment = trio.current_time()
        (row,) = await query(servers.database_url, "select pg_current_wal_insert_lsn()::text")
        with trio.move_on_after(FOLLOW_SECONDS_MAX):
            while not (await query(servers.database_url, FOLLOWING, row[0]))[0][0]:  # noqa: ASYNC110
                await trio.sleep(POLL_SECONDS)
            return standby, moment
        raise RuntimeError("the standby does not follow its primary")
    except BaseException:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(standby.discard)
        raise
