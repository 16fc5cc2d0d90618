"""Change, then tell: what administrators do to providers and models, below every front door.

A key is sealed before it reaches a port, and bound to its provider: a copy of it in another row opens nothing. It is
checked here, and is in no answer, log or error from here on. After each change every replica is told to read the rows
again; where that is lost, it finds out by its poll (``model_directory.py``). What is done for somebody (``by``) is
logged in the same transaction: which fields were given, never what a key is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from chatcluster.errors import InvalidRequest
from chatcluster.models import (
    Kind,
    ModelChange,
    ModelEntry,
    NewProvider,
    Provider,
    ProviderChange,
    changed,
    checked_entry,
    checked_key,
    checked_provider,
    place_of_key,
    require_able,
)
from chatcluster.ports import MODELS_CHANNEL, Account, Models
from chatcluster.ports.administration import Deed
from chatcluster.secrets import Keyring, last_four

SWITCHES = ("enabled", "is_default")


class ModelAdministration:
    def __init__(self, models: Models, keyring: Keyring, publish: Callable[[str, bytes], None]) -> None:
        self._models = models
        self._keyring = keyring
        self._publish = publish

    async def providers(self) -> tuple[Provider, ...]:
        return await self._models.providers()

    async def models(self) -> tuple[ModelEntry, ...]:
        return await self._models.models()

    async def add_provider(self, new: NewProvider, *, by: Account | None = None) -> Provider:
        """Raises ``InvalidRequest``, ``NameTaken``, and ``NoEncryptionKeys`` where a key cannot be sealed."""
        provider = Provider(
            name=new.name, kind=new.kind, base_url=new.base_url, enabled=new.enabled, options=new.options
        )
        deed = _deed(by, "provider.create", new.name, {"has_key": new.key is not None})
        added = await self._models.add_provider(checked_provider(self._with_key(provider, new.key)), deed)
        self._tell()
        return added

    async def change_provider(self, name: str, change: ProviderChange, *, by: Account | None = None) -> Provider:
        """Raises as above, and ``ProviderNotFound``."""

        def apply(provider: Provider) -> Provider:
            provider = changed(provider, change)
            if change.base_url is not UNSET:  # what was allowed once can still be turned off
                provider = checked_provider(provider)
            return provider if change.key is UNSET else self._with_key(provider, change.key)

        written = await self._models.change_provider(name, apply, _deed(by, "provider.change", name, _given(change)))
        self._tell()
        return written

    async def remove_provider(self, name: str, *, by: Account | None = None) -> None:
        await self._models.remove_provider(name, _deed(by, "provider.delete", name))
        self._tell()

    async def add_model(self, model: ModelEntry, *, by: Account | None = None) -> ModelEntry:
        """Raises ``InvalidRequest``, ``NameTaken``, ``ProviderNotFound``."""
        deed = _deed(by, "model.create", model.name, {"provider": model.provider})
        self._require_able(model, await self._kinds())
        added = await self._models.add_model(checked_entry(model), deed)
        self._tell()
        return added

    async def change_model(self, name: str, change: ModelChange, *, by: Account | None = None) -> ModelEntry:
        """Raises ``InvalidRequest``, ``ModelNotFound``, ``ProviderNotFound``."""
        if change.is_default is False:
            raise InvalidRequest("is_default is not taken from a model: give it to another one")
        is_at_stake = any(field is not UNSET for field in (change.provider, change.continuation, change.options))
        kinds = await self._kinds() if is_at_stake else {}

        def apply(model: ModelEntry) -> ModelEntry:
            model = checked_entry(changed(model, change))
            self._require_able(model, kinds)
            return model

        written = await self._models.change_model(name, apply, _deed(by, "model.change", name, _given(change)))
        self._tell()
        return written

    async def remove_model(self, name: str, *, by: Account | None = None) -> None:
        await self._models.remove_model(name, _deed(by, "model.delete", name))
        self._tell()

    async def _kinds(self) -> dict[str, Kind]:
        return {provider.name: provider.kind for provider in await self._models.providers()}

    def _require_able(self, model: ModelEntry, kinds: Mapping[str, Kind]) -> None:
        """Raise ``InvalidRequest`` for what the provider cannot do. Whether there is one, the store will tell."""
        if model.provider in kinds:
            require_able(model, kinds[model.provider])

    def _with_key(self, provider: Provider, key: str | None) -> Provider:
        if key is None:
            return msgspec.structs.replace(provider, sealed=None, key_hint=None)
        key = checked_key(key)
        sealed = self._keyring.seal(key.encode(), place_of_key(provider.name))
        return msgspec.structs.replace(provider, sealed=sealed, key_hint=last_four(key))

    def _tell(self) -> None:
        self._publish(MODELS_CHANNEL, b"")


def _deed(by: Account | None, action: str, name: str, details: dict[str, Any] | None = None) -> Deed | None:
    return None if by is None else Deed(by, action, name, details or {})


def _given(change: msgspec.Struct) -> dict[str, Any]:
    """What the log has of a change: which fields were given, and the values of those that are switches."""
    fields = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return {"fields": sorted(fields), **{name: fields[name] for name in SWITCHES if name in fields}}
