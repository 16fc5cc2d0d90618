"""The schema of the database: numbered migrations, forward only.

``sql/migrations/NNNN_name.sql`` are applied in order, each in a transaction of its own together with its row in
``schema_migrations``, by one process at a time: a session lock keeps the others waiting, and then they find nothing
left to do. A migration that was applied never changes again; its checksum is compared each time.

**Nobody waits for a migration that waits.** To change a table takes a lock that all its readers would queue behind for
as long as it is waited for. So each lock is waited for a quarter of a second, then the migration is undone, and tried
again after a pause, up to ``WAIT_SECONDS_MAX``; meanwhile it says who holds what. What was applied before stays, and
the next run goes on from there, also after one that was interrupted.

Rolling deploys: a new version is started while processes of the previous one still run on the migrated schema. So a
migration has to leave the schema usable for the previous version. One that cannot says so with a line
``-- breaking: <why>``; a process that finds a breaking migration which it does not know refuses to start, and one that
finds any other newer migration only says so.

**Foreign set-ups.** What a connection can be told is told (``postgres/connecting.py``). What cannot work all the same
is refused here: ``ConfigError`` for what stays so until somebody changes the database (its encoding, its schema,
defaults that a pooler hides from us), ``SchemaError`` for what a migration mends, ``StoreUnavailable`` for what may
pass."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.config import Settings
from chatcluster.errors import ConfigError, SchemaError, StoreLocked, StoreUnavailable
from chatcluster.postgres import Connection, Database, Lane, Row, open_database
from chatcluster.postgres.queries import load_queries

POSTGRES_VERSION_MIN = 14
MIGRATION_SECONDS_MAX = 3600.0
LOCK_MILLISECONDS_MAX = 250
"""For each lock of a migration; there are as many waits as it has tables, and readers wait as long."""
WAIT_SECONDS_MAX = 600.0
"""How long a migration tries to get its locks, or waits for another process that migrates."""
PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 5.0

ENCODINGS = ("UTF8", "SQL_ASCII")
Say = Callable[[str], None]

SESSION_LOCK = 0x63636C5F736368  # the letters "ccl_sch": any number that nobody else takes

SQL = load_queries("schema.sql")

_FILENAME = re.compile(r"(\d{4})_(\w+)\.sql")
_BREAKING = re.compile(r"^-- breaking: ", re.MULTILINE)


class Migration(NamedTuple):
    version: int
    name: str
    script: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.script.encode()).hexdigest()

    @property
    def breaking(self) -> bool:
        """Whether the previous version of chatcluster cannot work with the schema after it."""
        return _BREAKING.search(self.script) is not None


class Applied(NamedTuple):
    """A row of ``schema_migrations``."""

    version: int
    name: str
    checksum: str
    breaking: bool


def known_migrations() -> tuple[Migration, ...]:
    """The migrations of this version of chatcluster, by number."""
    directory = resources.files("chatcluster.postgres").joinpath("sql", "migrations")
    migrations = []
    for file in directory.iterdir():
        match = _FILENAME.fullmatch(file.name)
        if match is not None:
            migrations.append(Migration(int(match[1]), match[2], file.read_text()))
    return tuple(sorted(migrations))


def _report(text: str) -> None:
    telemetry.event("migration.said", text=text)


async def migrate(
    url: str, migrations: tuple[Migration, ...] | None = None, *, say: Say = _report
) -> tuple[Migration, ...]:
    """Bring the schema up to date, and return the migrations that this took. ``say`` gets a line when it has to wait.

    ``url`` has to lead to Postgres itself, not to a transaction pooler. Raises ``SchemaError`` for a schema that is not
    ours to change, ``StoreUnavailable`` when Postgres cannot be reached or a lock is not to be had.
    """
    migrations = known_migrations() if migrations is None else migrations
    applied: list[Migration] = []
    async with open_database(Settings.of(database_url=url)) as database:
        session = database.session("migration", lasting=True)
        backoff, give_up_at, said = (
            Backoff(PAUSE_SECONDS, PAUSE_SECONDS_MAX),
            trio.current_time() + WAIT_SECONDS_MAX,
            "",
        )
        while True:
            try:
                await session.run(_migrate, migrations, applied, say, deadline_seconds=MIGRATION_SECONDS_MAX)
                return tuple(applied)
            except StoreLocked as error:
                text = f"the migration waits for {error} {await session.run(_holders)}".rstrip()
            if trio.current_time() > give_up_at:
                raise StoreUnavailable(f"given up after {WAIT_SECONDS_MAX:g} s: {text}; run it again later")
            if text != said:
                say(said := text)
            await trio.sleep(backoff.next_seconds())


async def pending(url: str, migrations: tuple[Migration, ...] | None = None) -> tuple[Migration, ...]:
    """The migrations that ``migrate`` would apply. Raises what it raises."""
    migrations = known_migrations() if migrations is None else migrations
    async with open_database(Settings.of(database_url=url)) as database:
        applied, *_ = await database.autocommit(_look)
        return _missing(migrations, applied)


async def check_schema(
    database: Database, migrations: tuple[Migration, ...] | None = None, *, say: Say | None = None
) -> None:
    """Raise what says what to do, if this version cannot work with the database; ``say`` gets what it should know."""
    migrations = known_migrations() if migrations is None else migrations
    applied, forbidden, doubts = await database.autocommit(_look, lane=Lane.CLUSTER)
    missing = _missing(migrations, applied)
    if missing:
        raise SchemaError(
            f"the database lacks the migration {missing[0].version:04} {missing[0].name}: run `chatcluster migrate`"
        )
    if forbidden:
        raise StoreUnavailable(f"the role has no rights on the table {forbidden}; give it those of its owner")
    newer = [row for row in applied if row.version > migrations[-1].version]
    for row in newer:
        if row.breaking:
            raise SchemaError(
                f"the database has the migration {row.version:04} {row.name}, which this version cannot work with: "
                "upgrade chatcluster"
            )
    if newer:
        telemetry.event("schema.newer", version=newer[-1].version, known=migrations[-1].version)
    if say is not None:
        for doubt in doubts:
            say(doubt)


async def _migrate(
    connection: Connection, migrations: tuple[Migration, ...], applied: list[Migration], say: Say
) -> None:
    """Add to ``applied`` what is committed. Raises ``StoreLocked``."""
    await connection.execute(f"SET lock_timeout = '{LOCK_MILLISECONDS_MAX}ms'")
    if not await connection.fetchval(SQL["try_lock"], SESSION_LOCK):
        raise StoreLocked("another process that migrates")
    server = await _server(connection)
    missing = _missing(migrations, await _applied(connection, server))
    if missing:
        await connection.execute(SQL["create_ledger"])
    for doubt in _doubts(server):
        say(doubt)
    for migration in missing:
        await _apply(connection, migration)
        applied.append(migration)


async def _apply(connection: Connection, migration: Migration) -> None:
    """Script and row are one transaction; the failure of either closes the session, which undoes both."""
    await connection.execute("BEGIN")
    await connection.execute(migration.script)
    await connection.execute(
        SQL["insert_applied"], migration.version, migration.name, migration.checksum, migration.breaking
    )
    await connection.execute("COMMIT")


async def _holders(connection: Connection) -> str:
    """Who holds our tables, for people: not all of those need to be in the way."""
    rows = await connection.fetch(SQL["select_holders"])
    if not rows:
        return ""
    return "(held: " + "; ".join(f"{row['tables']} by pid {row['pid']}, {row['application']}" for row in rows) + ")"


# --- what is there ----------------------------------------------------------------------------


async def _look(connection: Connection) -> tuple[tuple[Applied, ...], str | None, tuple[str, ...]]:
    """What was applied, a table that we have no rights on, and what somebody should know."""
    server = await _server(connection)
    applied = await _applied(connection, server)
    return applied, await connection.fetchval(SQL["select_forbidden"]) if applied else None, _doubts(server)


async def _server(connection: Connection) -> Row:
    """Raises ``ConfigError`` and ``SchemaError`` if it cannot serve us."""
    server = await connection.fetchrow(SQL["select_server"])
    assert server is not None, "a select without a table has one row"
    if server["version"] < POSTGRES_VERSION_MIN:
        raise SchemaError(f"Postgres {POSTGRES_VERSION_MIN} or newer is needed; the server is {server['version']}")
    if server["encoding"] not in ENCODINGS:
        raise ConfigError(
            f"the database has the encoding {server['encoding']}, which cannot hold all text: create one with UTF8"
        )
    if server["schema"] is None:
        raise ConfigError("no schema of the role's search_path exists: create one, or alter the role's search_path")
    if server["isolation"] != "read committed":  # it could not be told, through a pooler
        raise ConfigError(
            "the database or the role has another default_transaction_isolation than 'read committed': alter it"
        )
    if server["replication_role"] == "replica":  # only a superuser may tell otherwise
        raise ConfigError(
            "the database or the role has session_replication_role = replica, with which triggers and foreign keys"
            " do nothing: alter it"
        )
    if server["standby"]:
        raise StoreUnavailable("this Postgres is a standby, which cannot be written to")
    if server["read_only"]:
        raise StoreUnavailable(
            "the database or the role is read only (default_transaction_read_only), as a primary that was replaced"
            " may be: alter it, or go to the new one"
        )
    return server


async def _applied(connection: Connection, server: Row) -> tuple[Applied, ...]:
    if not server["has_ledger"]:
        return ()
    rows = await connection.fetch(SQL["select_applied"])
    return tuple(Applied(row["version"], row["name"], row["checksum"], row["breaking"]) for row in rows)


def _doubts(server: Row) -> tuple[str, ...]:
    if server["synchronous_commit"] != "off":
        return ()
    return ("synchronous_commit is off: messages that were acknowledged can be lost when the server crashes",)


def _missing(migrations: tuple[Migration, ...], applied: tuple[Applied, ...]) -> tuple[Migration, ...]:
    """What is still to be applied. Raises ``SchemaError`` if something else was applied under a number of ours."""
    checksums = {row.version: row.checksum for row in applied}
    for migration in migrations:
        if checksums.get(migration.version, migration.checksum) != migration.checksum:
            raise SchemaError(
                f"the migration {migration.version:04} {migration.name} was applied to this database in another form: "
                "the database belongs to another version of chatcluster, or the installation is damaged"
            )
    return tuple(migration for migration in migrations if migration.version not in checksums)
