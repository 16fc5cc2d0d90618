"""The connections to Postgres: asyncpg, which speaks asyncio, behind trio.

``Database`` is a bounded pool for transactions, and the way to a ``Session``, which is a connection of its own for what
must not wait for the pool (heartbeats) or lasts (session locks). Nothing outside of this package knows asyncpg: the
adapters write a transaction as a coroutine function that gets a ``Connection`` and awaits nothing else.

* ``database.py``: a transaction from its place in the pool to its end. Start here.
* ``places.py``: the order in which transactions get a place: lanes, and at most two for one chat.
* ``connections.py``: the connections that the places share.
* ``session.py``: a connection outside of the pool.
* ``silence.py``: which connections are dead though nobody says so.
* ``connecting.py`` and ``url.py``: how a connection is made, and what its URL may say.
* ``translation.py``: the one place where errors of asyncpg, of sockets and of TLS become errors of ours.
"""

from chatcluster.postgres.connecting import Connection, Row
from chatcluster.postgres.database import Database, open_database
from chatcluster.postgres.places import Lane
from chatcluster.postgres.session import Session

__all__ = ["Connection", "Database", "Lane", "Row", "Session", "open_database"]
