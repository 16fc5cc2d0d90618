"""``Models`` on a ``MemoryDatabase``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from chatcluster.errors import ModelNotFound, NameTaken, ProviderInUse, ProviderNotFound
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.models import Catalogue, ModelEntry, Provider
from chatcluster.ports.administration import Deed

T = TypeVar("T")


class MemoryModels:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._tables = database.model_tables
        self._link = link or Link()

    async def catalogue(self) -> Catalogue:
        async with self._link.crossing("catalogue"):
            return Catalogue(dict(self._tables.providers), dict(self._tables.models))

    async def providers(self) -> tuple[Provider, ...]:
        async with self._link.crossing("providers"):
            return tuple(self._tables.providers[name] for name in sorted(self._tables.providers))

    async def models(self) -> tuple[ModelEntry, ...]:
        async with self._link.crossing("models"):
            return tuple(self._tables.models[name] for name in sorted(self._tables.models))

    async def add_provider(self, provider: Provider, deed: Deed | None = None) -> Provider:
        async with self._link.crossing("add_provider"):
            if provider.name in self._tables.providers:
                raise NameTaken(f"there is a provider {provider.name} already", name=provider.name)
            return self._noted(deed, self._write_provider(provider, None))

    async def change_provider(
        self, name: str, change: Callable[[Provider], Provider], deed: Deed | None = None
    ) -> Provider:
        async with self._link.crossing("change_provider"):
            before = self._tables.providers.get(name)
            if before is None:
                raise ProviderNotFound(f"there is no provider {name}", name=name)
            return self._noted(deed, self._write_provider(change(before), before))

    async def remove_provider(self, name: str, deed: Deed | None = None) -> None:
        async with self._link.crossing("remove_provider"):
            if name not in self._tables.providers:
                raise ProviderNotFound(f"there is no provider {name}", name=name)
            if any(model.provider == name for model in self._tables.models.values()):
                raise ProviderInUse(f"there are models of {name}: remove them first", name=name)
            del self._tables.providers[name]
            self._database.record_deed(deed)

    async def add_model(self, model: ModelEntry, deed: Deed | None = None) -> ModelEntry:
        async with self._link.crossing("add_model"):
            if model.name in self._tables.models:
                raise NameTaken(f"there is a model {model.name} already", name=model.name)
            is_first = not any(other.is_default for other in self._tables.models.values())
            model = msgspec.structs.replace(model, is_default=model.is_default or is_first)
            return self._noted(deed, self._write_model(model))

    async def change_model(
        self, name: str, change: Callable[[ModelEntry], ModelEntry], deed: Deed | None = None
    ) -> ModelEntry:
        async with self._link.crossing("change_model"):
            if name not in self._tables.models:
                raise ModelNotFound(f"there is no model {name}", name=name)
            return self._noted(deed, self._write_model(change(self._tables.models[name])))

    async def remove_model(self, name: str, deed: Deed | None = None) -> None:
        async with self._link.crossing("remove_model"):
            if self._tables.models.pop(name, None) is None:
                raise ModelNotFound(f"there is no model {name}", name=name)
            self._database.record_deed(deed)

    def _noted(self, deed: Deed | None, written: T) -> T:
        self._database.record_deed(deed)
        return written

    def _write_provider(self, provider: Provider, before: Provider | None) -> Provider:
        is_same_key = before is not None and before.sealed == provider.sealed
        set_at = before.key_set_at if before is not None and is_same_key else self._database.now()
        written = msgspec.structs.replace(provider, key_set_at=None if provider.sealed is None else set_at)
        self._tables.providers[provider.name] = written
        return written

    def _write_model(self, model: ModelEntry) -> ModelEntry:
        if model.provider not in self._tables.providers:
            raise ProviderNotFound(f"there is no provider {model.provider}", name=model.provider)
        if model.is_default:
            for name, other in self._tables.models.items():
                self._tables.models[name] = msgspec.structs.replace(other, is_default=False)
        self._tables.models[model.name] = model
        return model
