"""The schema of the database: numbered migrations, forward only.

``sql/migrations/NNNN_name.sql`` are applied in order, each in a transaction of its own together with its row in
``schema_migrations``, by one process at a time: a session lock keeps the others waiting, and then they find nothing
left to do. A migration that was applied never changes again; its checksum is compared each time.

Rolling deploys: a new version is started while processes of the previous one still run on the migrated schema. So a
migration has to leave the schema usable for the previous version. One that cannot says so with a line
``-- breaking: <why>``; a process that finds a breaking migration which it does not know refuses to start, and one that
finds any other newer migration only says so.
"""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from typing import NamedTuple

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import SchemaError
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.queries import load_queries

POSTGRES_VERSION_MIN = 14
MIGRATION_SECONDS_MAX = 3600.0
LOCK_SECONDS_MAX = 60
"""How long a migration waits for another one, or for a table that is in use, before it gives up."""

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
    directory = resources.files("chatcluster").joinpath("sql", "migrations")
    migrations = []
    for file in directory.iterdir():
        match = _FILENAME.fullmatch(file.name)
        if match is not None:
            migrations.append(Migration(int(match[1]), match[2], file.read_text()))
    return tuple(sorted(migrations))


async def migrate(url: str, migrations: tuple[Migration, ...] | None = None) -> tuple[Migration, ...]:
    """Bring the schema up to date, and return the migrations that this took.

    ``url`` has to lead to Postgres itself, not to a transaction pooler. Raises ``SchemaError`` for a schema that is not
    ours to change, ``StoreUnavailable`` when Postgres cannot be reached or a lock is not to be had.
    """
    migrations = known_migrations() if migrations is None else migrations
    async with open_database(Settings(database_url=url)) as database:
        session = database.session("migration", lasting=True)
        return await session.run(_migrate, migrations, deadline_seconds=MIGRATION_SECONDS_MAX)


async def pending(url: str, migrations: tuple[Migration, ...] | None = None) -> tuple[Migration, ...]:
    """The migrations that ``migrate`` would apply. Raises what it raises."""
    migrations = known_migrations() if migrations is None else migrations
    async with open_database(Settings(database_url=url)) as database:
        return _missing(migrations, await database.autocommit(_applied))


async def check_schema(database: Database, migrations: tuple[Migration, ...] | None = None) -> None:
    """Raise ``SchemaError``, which says what to do, if this version cannot work with the database's schema."""
    migrations = known_migrations() if migrations is None else migrations
    applied = await database.autocommit(_applied)
    missing = _missing(migrations, applied)
    if missing:
        raise SchemaError(
            f"the database lacks the migration {missing[0].version:04} {missing[0].name}: run `chatcluster migrate`"
        )
    newer = [row for row in applied if row.version > migrations[-1].version]
    for row in newer:
        if row.breaking:
            raise SchemaError(
                f"the database has the migration {row.version:04} {row.name}, which this version cannot work with: "
                "upgrade chatcluster"
            )
    if newer:
        telemetry.event("schema.newer", version=newer[-1].version, known=migrations[-1].version)


async def _migrate(connection: Connection, migrations: tuple[Migration, ...]) -> tuple[Migration, ...]:
    await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS_MAX}s'")
    await connection.execute(SQL["wait_for_lock"], SESSION_LOCK)
    missing = _missing(migrations, await _applied(connection))
    if missing:
        await connection.execute(SQL["create_ledger"])
    for migration in missing:
        await _apply(connection, migration)
    return missing


async def _apply(connection: Connection, migration: Migration) -> None:
    """Script and row are one transaction; the failure of either closes the session, which undoes both."""
    await connection.execute("BEGIN")
    await connection.execute(migration.script)
    await connection.execute(
        SQL["insert_applied"], migration.version, migration.name, migration.checksum, migration.breaking
    )
    await connection.execute("COMMIT")


async def _applied(connection: Connection) -> tuple[Applied, ...]:
    version = int(await connection.fetchval("SHOW server_version_num")) // 10_000
    if version < POSTGRES_VERSION_MIN:
        raise SchemaError(f"Postgres {POSTGRES_VERSION_MIN} or newer is needed; the server is {version}")
    if not await connection.fetchval(SQL["has_ledger"]):
        return ()
    rows = await connection.fetch(SQL["select_applied"])
    return tuple(Applied(row["version"], row["name"], row["checksum"], row["breaking"]) for row in rows)


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
