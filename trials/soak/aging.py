"""A day passes: what would be over by then is so now. Nothing is deleted here; that is the cluster's to do.

Keys of requests are dated back by a day. Streams in Redis get the rest of their time shortened: one that has no
end keeps it, and is found by that.
"""

from __future__ import annotations

import redis
import trio
from chaos.database import query
from chaos.servers import Servers

DAY_SECONDS = 24 * 3600
STREAM_SECONDS = 660
"""A stream ends 10 min after its last turn."""
REST_SECONDS_MAX = 180.0
LOOK_SECONDS = 0.5
BUSY = "select count(*) from chats where status in ('running', 'interrupting')"
DATE_BACK = "update idempotency_keys set created_at = created_at - make_interval(secs => $1::float)"


async def come_to_rest(servers: Servers) -> bool:
    """Wait until no chat is at work: a day that passed before would leave their streams behind. Whether that came."""
    with trio.move_on_after(REST_SECONDS_MAX) as waiting:
        while (await query(servers.database_url, BUSY))[0][0]:  # noqa: ASYNC110 - another process's state
            await trio.sleep(LOOK_SECONDS)
    return not waiting.cancelled_caught


async def let_a_day_pass(servers: Servers) -> int:
    """How many keys of Redis have no end, or one that is farther off than that of a chat at rest."""
    await query(servers.database_url, DATE_BACK, float(DAY_SECONDS))
    return await trio.to_thread.run_sync(_age_streams, servers.redis_url)


def _age_streams(url: str) -> int:
    endless = 0
    with redis.Redis.from_url(url) as connection:
        for key in connection.scan_iter(count=1000):
            seconds = connection.ttl(key)
            if 0 <= seconds <= STREAM_SECONDS:
                connection.expire(key, 1)
            elif seconds != -2:  # that one is gone meanwhile
                endless += 1
    return endless
