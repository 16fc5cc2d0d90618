"""Postgres and Redis as child processes, for `chatcluster up` and the tests, without servers of one's own.

Each server is a direct child of this process, in a session of its own: a terminal's Ctrl-C does not
reach it before its starter stops it in order. It never outlives its starter: the kernel signals it when
the starter dies, whatever it died of (``guard.py``), and what an earlier run left behind all the same is
found by its working directory and stopped before the next start.

* ``PostgresServer`` keeps its data; stopping, killing and starting again go on with the same data.
* ``RedisServer`` keeps nothing: Redis is never the truth.

Binaries: those on the PATH first, then those of the wheels (``pip install 'chatcluster[embedded]'``), for
Redis last of all fakeredis's server. The interface is synchronous, because starting and stopping frame the
program rather than run in it; from trio, call ``stop`` in a thread where that matters.
"""

from chatcluster.local.embedded.postgres_server import PostgresServer
from chatcluster.local.embedded.redis_server import RedisServer

__all__ = ["PostgresServer", "RedisServer"]
