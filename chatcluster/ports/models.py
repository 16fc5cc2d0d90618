"""The rows of providers and models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chatcluster.models import Catalogue, ModelEntry, Provider


class Models(Protocol):
    """Providers and models as they are kept. What they mean is told by ``models.py``.

    Changes are made under the row's lock: ``change`` gets the row as it is, and returns what is to be.
    """

    async def catalogue(self) -> Catalogue:
        """All providers and models, in one consistent read."""
        ...

    async def providers(self) -> tuple[Provider, ...]:
        """By name."""
        ...

    async def models(self) -> tuple[ModelEntry, ...]:
        """By name."""
        ...

    async def add_provider(self, provider: Provider) -> Provider:
        """Raises ``NameTaken``."""
        ...

    async def change_provider(self, name: str, change: Callable[[Provider], Provider]) -> Provider:
        """Raises ``ProviderNotFound``, and what ``change`` raises."""
        ...

    async def remove_provider(self, name: str) -> None:
        """Raises ``ProviderNotFound``, and ``ProviderInUse`` while models are its."""
        ...

    async def add_model(self, model: ModelEntry) -> ModelEntry:
        """The first model, and one that says so, becomes the default. Raises ``NameTaken``, ``ProviderNotFound``."""
        ...

    async def change_model(self, name: str, change: Callable[[ModelEntry], ModelEntry]) -> ModelEntry:
        """Raises ``ModelNotFound``, ``ProviderNotFound``, and what ``change`` raises."""
        ...

    async def remove_model(self, name: str) -> None:
        """Chats that name it are answered by the default. Raises ``ModelNotFound``."""
        ...
