"""Whatever is stored in any column of any table for one user: all that is done for another goes on (P10).

By the catalogue: a table or column that is new is looked at as well. Constraints that say which values there are do not
hold here, as a newer version has others.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from neighbours_looks import Look, Looks
from two_neighbours import ODD, PLAIN, Neighbours, open_neighbours, telling

from chatcluster.config import Settings
from chatcluster.postgres import open_database
from chatcluster.web.errors import answer

pytestmark = pytest.mark.postgres

SHARED = ("cluster_identity", "usage_added_up", "schema_version", "schema_migrations", "migrations")
"""Tables with rows that are nobody's."""
DEEP = "[" * 1500 + "]" * 1500
NUMBERS = ("0", "-1", "32767", "2147483647", "9223372036854775807", "-9223372036854775808")
TIMES = ("infinity", "-infinity", "4000-01-01 BC", "20000-01-01", "294276-12-31", "0001-01-01 BC")
VALUES: Mapping[str, tuple[str, ...]] = {
    "text": ("", "hologram", "-1", "\u202egpj", "a\nb", "x" * 100_000, "{}", DEEP),
    "json": ("null", "7", '"x"', "[]", "{}", '[7]', '{"type": 7, "hologram": 1}', DEEP, '"\\ud800"', "1e999"),
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "bool": ("true", "false"),
    "timestamptz": TIMES,
    "bytea": ("", "\\x00", "\\xff" * 1),
    "float8": ("NaN", "Infinity", "-Infinity", "1e308", "-1"),
    "_text": ("{}", "{hologram}", "{NULL}", "{{a,b},{c,d}}"),
    "_int8": ("{}", "{NULL}", "{9223372036854775807}", "{{1,2},{3,4}}"),
    "int2": NUMBERS, "int4": NUMBERS, "int8": NUMBERS,
}  # fmt: skip


async def tables_of(looks: Mapping[str, Look], neighbours: Neighbours) -> dict[str, set[str]]:
    """Which looks are at which table, by what they say."""
    tables: dict[str, set[str]] = {}
    for name, look in looks.items():
        neighbours.database.said.clear()
        assert await look(PLAIN), f"{name} finds nothing"
        for word in set(re.findall(r"\w+", " ".join(neighbours.database.said))):
            tables.setdefault(word, set()).add(name)
    return tables


async def columns_of(neighbours: Neighbours) -> list[Any]:
    return await neighbours.ask(
        "select table_name, column_name, udt_name, is_nullable = 'YES' as is_nullable from information_schema.columns"
        " where table_schema = 'public' and is_generated = 'NEVER'"
        " order by table_name, ordinal_position"
    )


async def odd_rows(neighbours: Neighbours) -> dict[str, list[str]]:
    """Of each table the places of the odd one's rows: those that have one of its IDs, its number or its digest."""
    found: dict[str, list[str]] = {}
    for row in await neighbours.ask("select tablename from pg_tables where schemaname = 'public'"):
        table = row["tablename"]
        mine = r"00000000-0000-0000-0000-0001000000|(user|token|server|provider|model|template)1\M"
        rows = await neighbours.ask(f"select ctid::text as place from {table} as t where t::text ~ $1", mine)
        found[table] = [one["place"] for one in rows]
    return found


async def failures(neighbours: Neighbours, values: Mapping[str, tuple[str, ...]], number: int) -> list[str]:
    """What fails for the plain one, and what is an error of ours for the odd one. ``number`` chooses one of the values
    for each column, and one of the odd one's rows."""
    looks = Looks(neighbours).all()
    tables, rows, failed = await tables_of(looks, neighbours), await odd_rows(neighbours), []
    for place, column in enumerate(await columns_of(neighbours), start=number):
        table, name = column["table_name"], column["column_name"]
        if table in SHARED or not rows[table]:
            continue
        odd = (*values[column["udt_name"]], *((None,) if column["is_nullable"] else ()))
        value, at = odd[place % len(odd)], rows[table][place % len(rows[table])]
        written = "null" if value is None else f"$v${value}$v$"
        async with neighbours.changed(f"update {table} set {name} = {written} where ctid = '{at}'") as is_done:
            for look in sorted(tables.get(table, ())) if is_done else ():
                for why in await _failures_of(looks[look]):
                    failed.append(f"{table}.{name} = {str(value)[:40]!r}: {look}: {why}")
    return failed


CRASHES = re.compile(r"crashed$|^purge.failed$")


async def _failures_of(look: Look) -> list[str]:
    found = []
    for one in (PLAIN, ODD):
        if one is ODD and not look.__name__.startswith("own_"):
            continue
        async with telling(CRASHES) as told:
            try:
                is_found = await look(one)
                if one is PLAIN and not is_found:
                    found.append("the other one is not found")
            except Exception as error:  # noqa: BLE001 - any of them
                if one is PLAIN or answer(error).status >= 500:
                    found.append(f"{'for the other' if one is PLAIN else 'of its own'}: {error!r}"[:300])
        found += told
    return found


@pytest.fixture
async def neighbours(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Neighbours]:
    monkeypatch.setattr("chatcluster.postgres.purge.PAUSE_SECONDS", 0.0)
    async with (
        open_database(Settings.of(database_url=database_url)) as database,
        open_neighbours(database) as neighbours,
    ):
        yield neighbours


async def test_whatever_is_in_any_column_of_one_user_all_is_done_for_another(neighbours: Neighbours) -> None:
    assert await failures(neighbours, VALUES, number=0) == []
