"""The ID of a cluster: what all replicas on one database have in common, and nobody else has.

The names of a cluster's keys and channels in Redis are made of it (``redis/connections.py``). It is a digest of

* a random row of the database, which a migration has made;
* the number of the database on its server, so that a copy under another name on the same server is another cluster;
* the identifier of the server's data, so that a copy by ``pg_dump`` on another server is another cluster. Roles that
  may not ask for it do without; then two servers whose databases have the same number are not told apart.

So it is the same after a failover to a standby, which is a physical copy, and after any restart. It is also the same
on a clone that was made from a snapshot of the disk: to run it beside the original, it has to be given a new row
(``renew_cluster_id``) before its replicas start. Running replicas keep the ID that they have read.
"""

from __future__ import annotations

import hashlib

from chatcluster.errors import SchemaError
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.queries import load_queries

ID_CHARACTERS = 16

SQL = load_queries("identity.sql")


async def read_cluster_id(database: Database) -> str:
    """Raises ``SchemaError`` where there is none, and ``StoreUnavailable``."""
    return await database.autocommit(_read)


async def renew_cluster_id(database: Database) -> str:
    """Make this another cluster than it was, and return its ID. Its replicas have to be restarted."""
    return await database.autocommit(_renew)


async def _read(connection: Connection) -> str:
    if not await connection.fetchval(SQL["has_identity"]):
        raise SchemaError("the database has no identity yet: run `chatcluster migrate`")
    row = await connection.fetchrow(SQL["select_identity"])
    if row is None:
        raise SchemaError("the database has lost its identity: run `chatcluster cluster new-id`")
    system = await connection.fetchval(SQL["select_system"]) if row["may_ask_system"] else ""
    told = f"{row['id']} {row['database_oid']} {system}"
    return hashlib.sha256(told.encode()).hexdigest()[:ID_CHARACTERS]


async def _renew(connection: Connection) -> str:
    if await connection.fetchval(SQL["has_identity"]):
        await connection.execute(SQL["renew_identity"])
    return await _read(connection)
