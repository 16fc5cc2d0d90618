"""Sealed values are sealed anew with the newest key: ``chatcluster secrets rotate``.

A batch is one transaction: it locks at most ``BATCH_ROWS`` rows, decrypts and encrypts what is in them, and writes them
back. Another change of such a row at the same time waits for that, a few milliseconds; rows that somebody holds are
passed over, and taken by a later look. So nothing is lost under load, and an interrupted rotation is simply run again.

A value that no key opens is left as it is and counted: its key may still be found.
"""

from __future__ import annotations

from typing import NamedTuple

import trio

from chatcluster.errors import SecretUnreadable
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.queries import load_queries
from chatcluster.secrets import Keyring, place_of

BATCH_ROWS = 100
LOOKS_MAX = 10
PAUSE_SECONDS = 0.2
"""Between two looks, for rows that somebody holds."""

SQL = load_queries("sealed.sql")


class SealedColumn(NamedTuple):
    """A table with a column ``sealed``, and the columns of its key, which the values are bound to."""

    table: str
    key: tuple[str, ...]


SEALED_COLUMNS = (
    SealedColumn("mcp_servers", ("id",)),
    SealedColumn("mcp_grants", ("server_id", "user_id")),
    SealedColumn("mcp_logins", ("state_digest",)),
    SealedColumn("providers", ("name",)),
    SealedColumn("workspace_hosts", ("id",)),
)
"""All of them. A new one is put in here, with its two queries, and into ``count_stale``."""


class Rotated(NamedTuple):
    resealed: int
    left: int
    """Still sealed with another key: no key opens them, or somebody held their rows all the time."""


async def rotate(database: Database, keyring: Keyring) -> Rotated:
    """Seal everything with the first key. Raises ``NoEncryptionKeys``."""
    head, resealed, left = keyring.head, 0, 0
    for look in range(LOOKS_MAX):
        if look:
            await trio.sleep(PAUSE_SECONDS)
        for column in SEALED_COLUMNS:
            resealed += await _rotate_column(database, keyring, column)
        left = await database.autocommit(_count_stale, head)
        if not left:
            break
    return Rotated(resealed, left)


async def _rotate_column(database: Database, keyring: Keyring, column: SealedColumn) -> int:
    """Batches, until one is not full."""
    total = passed_over = 0
    while True:
        done, found = await database.transaction(_reseal_batch, keyring, column, passed_over)
        total += done
        passed_over += found - done
        if found < BATCH_ROWS:
            return total


async def _reseal_batch(
    connection: Connection, keyring: Keyring, column: SealedColumn, passed_over: int
) -> tuple[int, int]:
    """How many were sealed anew, and how many there were."""
    rows, done = await connection.fetch(SQL[f"stale_{column.table}"], keyring.head, BATCH_ROWS, passed_over), 0
    for row in rows:
        key = [row[name] for name in column.key]
        place = sealed_place(column, *key)
        try:
            sealed = keyring.resealed(row["sealed"], place)
        except SecretUnreadable:
            continue
        await connection.execute(SQL[f"reseal_{column.table}"], sealed, *key)
        done += 1
    return done, len(rows)


def sealed_place(column: SealedColumn, *key: object) -> str:
    """What a value in this row is bound to."""
    shown = (part.hex() if isinstance(part, bytes) else part for part in key)
    return place_of(column.table, "sealed", *shown)


async def _count_stale(connection: Connection, head: bytes) -> int:
    return int(await connection.fetchval(SQL["count_stale"], head))
