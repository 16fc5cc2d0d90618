"""The rows of providers and models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chatcluster.models import Catalogue, ModelEntry, Provider
from chatcluster.ports.administration import Deed


class Models(Protocol):
    """Providers and models as they are kept. What they mean is told by ``models.py``.

    Changes are made under the row's lock: ``change`` gets the row as it is, and returns what is to be. The ``deed`` is
    logged with what was done, and not where that is refused.
    """

    async def catalogue(self) -> Catalogue:
        """All providers and models, in one consistent read."""
        ...

    async def providers(self) -> tuple[Provider, ...]:
        """All providers, by name."""
        ...

    async def models(self) -> tuple[ModelEntry, ...]:
        """All models, by name."""
        ...

    async def add_provider(self, provider: Provider, deed: Deed | None = None) -> Provider:
        """Raises ``NameTaken``."""
        ...

    async def change_provider(
        self, name: str, change: Callable[[Provider], Provider], deed: Deed | None = None
    ) -> Provider:
        """Raises ``ProviderNotFound``, and what ``change`` raises."""
        ...

    async def remove_provider(self, name: str, deed: Deed | None = None) -> None:
        """Raises ``ProviderNotFound``, and ``ProviderInUse`` while models are its."""
        ...

    async def add_model(self, model: ModelEntry, deed: Deed | None = None) -> ModelEntry:
        """The first model, and one that says so, becomes the default. Raises ``NameTaken``, ``ProviderNotFound``."""
        ...

    async def change_model(
        self, name: str, change: Callable[[ModelEntry], ModelEntry], deed: Deed | None = None
    ) -> ModelEntry:
        """Raises ``ModelNotFound``, ``ProviderNotFound``, and what ``change`` raises."""
        ...

    async def remove_model(self, name: str, deed: Deed | None = None) -> None:
        """Chats that name it are answered by the default. Raises ``ModelNotFound``."""
        ...
