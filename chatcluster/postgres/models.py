"""``Models`` on Postgres: the rows of providers and models.

Who is authoritative: the rows. A change locks its row, gives it to the caller's function, and writes what that returns.
All changes of models wait for each other, as which of them is the default concerns all of them.

A row that this version cannot read, of a newer one or damaged, is passed over where all are listed: its models cannot
be asked, and all others can.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import msgspec

from chatcluster import telemetry
from chatcluster.errors import ModelNotFound, NameTaken, ProviderInUse, ProviderNotFound, Unreadable
from chatcluster.models import Catalogue, ModelEntry, Provider
from chatcluster.parts import UNDECODABLE
from chatcluster.ports.administration import Deed
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.administration import record_deed
from chatcluster.postgres.queries import load_queries

SQL = load_queries("models.sql")

PROVIDER_COLUMNS = ("name", "kind", "base_url", "enabled", "sealed", "key_hint", "key_set_at")
MODEL_COLUMNS = ("name", "provider", "provider_model", "enabled", "is_default")

T = TypeVar("T")


class PostgresModels:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def catalogue(self) -> Catalogue:
        return await self._database.transaction(_catalogue)

    async def providers(self) -> tuple[Provider, ...]:
        return await self._database.autocommit(_providers)

    async def models(self) -> tuple[ModelEntry, ...]:
        return await self._database.autocommit(_models)

    async def add_provider(self, provider: Provider, deed: Deed | None = None) -> Provider:
        return await self._database.transaction(_noted, deed, _add_provider, provider)

    async def change_provider(
        self, name: str, change: Callable[[Provider], Provider], deed: Deed | None = None
    ) -> Provider:
        return await self._database.transaction(_noted, deed, _change_provider, name, change)

    async def remove_provider(self, name: str, deed: Deed | None = None) -> None:
        await self._database.transaction(_noted, deed, _remove_provider, name)

    async def add_model(self, model: ModelEntry, deed: Deed | None = None) -> ModelEntry:
        return await self._database.transaction(_noted, deed, _add_model, model)

    async def change_model(
        self, name: str, change: Callable[[ModelEntry], ModelEntry], deed: Deed | None = None
    ) -> ModelEntry:
        return await self._database.transaction(_noted, deed, _change_model, name, change)

    async def remove_model(self, name: str, deed: Deed | None = None) -> None:
        await self._database.transaction(_noted, deed, _remove_model, name)


async def _noted(connection: Connection, deed: Deed | None, write: Callable[..., Awaitable[T]], *args: object) -> T:
    """Do it, and log it."""
    done = await write(connection, *args)
    await record_deed(connection, deed)
    return done


async def _catalogue(connection: Connection) -> Catalogue:
    providers, models = await _providers(connection), await _models(connection)
    return Catalogue({row.name: row for row in providers}, {row.name: row for row in models})


async def _providers(connection: Connection) -> tuple[Provider, ...]:
    return tuple(_readable(await connection.fetch(SQL["list_providers"]), _provider))


async def _models(connection: Connection) -> tuple[ModelEntry, ...]:
    return tuple(_readable(await connection.fetch(SQL["list_models"]), _model))


async def _add_provider(connection: Connection, provider: Provider) -> Provider:
    row = await connection.fetchrow(SQL["insert_provider"], *_provider_values(provider))
    if row is None:
        raise NameTaken(f"there is a provider {provider.name} already", name=provider.name)
    return _provider(row)


async def _change_provider(connection: Connection, name: str, change: Callable[[Provider], Provider]) -> Provider:
    row = await connection.fetchrow(SQL["lock_provider"], name)
    if row is None:
        raise ProviderNotFound(f"there is no provider {name}", name=name)
    row = await connection.fetchrow(SQL["update_provider"], *_provider_values(change(_provider(row))))
    assert row is not None, "the row is locked, so it exists"
    return _provider(row)


async def _remove_provider(connection: Connection, name: str) -> None:
    if await connection.fetchrow(SQL["lock_provider"], name) is None:
        raise ProviderNotFound(f"there is no provider {name}", name=name)
    if await connection.fetchval(SQL["is_used"], name):
        raise ProviderInUse(f"there are models of {name}: remove them first, or give them another provider", name=name)
    await connection.execute(SQL["delete_provider"], name)


async def _add_model(connection: Connection, model: ModelEntry) -> ModelEntry:
    await _prepare_models(connection, model)
    row = await connection.fetchrow(SQL["insert_model"], *_model_values(model))
    if row is None:
        raise NameTaken(f"there is a model {model.name} already", name=model.name)
    return _model(row)


async def _change_model(connection: Connection, name: str, change: Callable[[ModelEntry], ModelEntry]) -> ModelEntry:
    await connection.execute(SQL["lock_models"])
    row = await connection.fetchrow(SQL["lock_model"], name)
    if row is None:
        raise ModelNotFound(f"there is no model {name}", name=name)
    model = change(_model(row))
    await _prepare_models(connection, model)
    row = await connection.fetchrow(SQL["update_model"], *_model_values(model))
    assert row is not None, "the row is locked, so it exists"
    return _model(row)


async def _prepare_models(connection: Connection, model: ModelEntry) -> None:
    """Make way for ``model``: its provider stays, and no other is the default if it is."""
    await connection.execute(SQL["lock_models"])
    if await connection.fetchval(SQL["hold_provider"], model.provider) is None:
        raise ProviderNotFound(f"there is no provider {model.provider}", name=model.provider)
    if model.is_default:
        await connection.execute(SQL["clear_default"], model.name)


async def _remove_model(connection: Connection, name: str) -> None:
    if await connection.fetchval(SQL["delete_model"], name) is None:
        raise ModelNotFound(f"there is no model {name}", name=name)


# --- rows -------------------------------------------------------------------------------------


def _readable(rows: Iterable[Row], read: Callable[[Row], T]) -> Iterable[T]:
    for row in rows:
        try:
            yield read(row)
        except Unreadable as error:
            telemetry.event("models.unreadable", name=row["name"], error=str(error))


def _provider(row: Row) -> Provider:
    return _struct(row, PROVIDER_COLUMNS, Provider)


def _model(row: Row) -> ModelEntry:
    return _struct(row, MODEL_COLUMNS, ModelEntry)


def _struct(row: Row, columns: tuple[str, ...], kind: type[T]) -> T:
    """The columns, and what ``details`` has besides. Raises ``Unreadable``."""
    try:
        details = msgspec.json.decode(row["details"], type=dict[str, object])
        return msgspec.convert(details | {name: row[name] for name in columns}, kind)
    except UNDECODABLE as error:
        raise Unreadable(f"{row['name']} cannot be read by this version of chatcluster: {error}") from None


def _provider_values(provider: Provider) -> tuple[object, ...]:
    return (
        provider.name,
        str(provider.kind),
        provider.base_url,
        provider.enabled,
        provider.sealed,
        provider.key_hint,
        _details(provider, PROVIDER_COLUMNS),
    )


def _model_values(model: ModelEntry) -> tuple[object, ...]:
    return (*(getattr(model, name) for name in MODEL_COLUMNS), _details(model, MODEL_COLUMNS))


def _details(row: msgspec.Struct, columns: tuple[str, ...]) -> str:
    names = (name for name in row.__struct_fields__ if name not in columns)
    return msgspec.json.encode({name: getattr(row, name) for name in names}).decode()
