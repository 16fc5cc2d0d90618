"""Routes of models and their providers: which ones there are, and for administrators what they are."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody, QueryParameter

from chatcluster.models import Kind, ModelChange, ModelEntry, NewProvider, Provider, ProviderChange, ProviderOptions
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest


class ModelAnswer(msgspec.Struct, frozen=True):
    """A model that can be asked. ``context_tokens``: how long a conversation it takes, if that is known."""

    name: str
    is_default: bool
    context_tokens: int | None = None


class ModelsAnswer(msgspec.Struct, frozen=True):
    models: list[ModelAnswer]


class ProviderAnswer(msgspec.Struct, frozen=True):
    """A provider. Its key is never shown: ``key_hint`` has the last characters of it, where it is long enough."""

    name: str
    kind: Kind
    base_url: str
    enabled: bool
    options: ProviderOptions
    has_key: bool
    key_hint: str | None
    key_set_at: datetime | None


class ProvidersAnswer(msgspec.Struct, frozen=True):
    providers: list[ProviderAnswer]


class ModelEntriesAnswer(msgspec.Struct, frozen=True):
    models: tuple[ModelEntry, ...]


def provider_answer(provider: Provider) -> ProviderAnswer:
    return ProviderAnswer(
        name=provider.name,
        kind=provider.kind,
        base_url=provider.base_url,
        enabled=provider.enabled,
        options=provider.options,
        has_key=provider.sealed is not None,
        key_hint=provider.key_hint,
        key_set_at=provider.key_set_at,
    )


@get("/models", responses=REFUSALS)
async def list_models(request: ApiRequest) -> ModelsAnswer:
    """The models that a chat or a message can name, the default first."""
    return await usable_models(request)


async def usable_models(request: ApiRequest) -> ModelsAnswer:
    catalogue = await request.services.models.catalogue()
    if catalogue.is_empty:
        name = request.services.settings.llm.model
        return ModelsAnswer([ModelAnswer(name, is_default=True)] if name else [])
    return ModelsAnswer([ModelAnswer(row.name, row.is_default, row.context_tokens) for row in catalogue.usable])


# --- administrators ---------------------------------------------------------------------------


@get("/admin/providers", guards=[require_admin], responses=REFUSALS)
async def list_providers(request: ApiRequest) -> ProvidersAnswer:
    """The servers of models, without their keys."""
    return ProvidersAnswer([provider_answer(provider) for provider in await request.services.models.admin.providers()])


@post("/admin/providers", guards=[require_admin], responses=REFUSALS)
async def add_provider(request: ApiRequest, data: JSONBody[NewProvider]) -> ProviderAnswer:
    """Add a server of models. Its key is encrypted before it is stored, and never shown again."""
    return provider_answer(await request.services.models.admin.add_provider(data, by=request.user))


@patch("/admin/providers/{name:str}", guards=[require_admin], responses=REFUSALS)
async def change_provider(request: ApiRequest, name: FromPath[str], data: JSONBody[ProviderChange]) -> ProviderAnswer:
    """Change a provider; what is left away stays. `"key": null` removes its key."""
    return provider_answer(await request.services.models.admin.change_provider(name, data, by=request.user))


@delete("/admin/providers/{name:str}", guards=[require_admin], responses=REFUSALS)
async def remove_provider(request: ApiRequest, name: FromPath[str]) -> None:
    """Remove a provider that no model is of."""
    await request.services.models.admin.remove_provider(name, by=request.user)


@get("/admin/models", guards=[require_admin], responses=REFUSALS)
async def list_entries(request: ApiRequest) -> ModelEntriesAnswer:
    """All models, also those that cannot be asked now."""
    return ModelEntriesAnswer(await request.services.models.admin.models())


@post("/admin/models", guards=[require_admin], responses=REFUSALS)
async def add_model(request: ApiRequest, data: JSONBody[ModelEntry]) -> ModelEntry:
    """Add a model of a provider. The first one is the default."""
    return await request.services.models.admin.add_model(data, by=request.user)


NAME = Annotated[str, QueryParameter(description="The model; a name may have slashes, so it is no part of the path")]


@patch("/admin/model", guards=[require_admin], responses=REFUSALS)
async def change_model(request: ApiRequest, name: NAME, data: JSONBody[ModelChange]) -> ModelEntry:
    """Change a model; what is left away stays."""
    return await request.services.models.admin.change_model(name, data, by=request.user)


@delete("/admin/model", guards=[require_admin], responses=REFUSALS)
async def remove_model(request: ApiRequest, name: NAME) -> None:
    """Remove a model. Chats that name it are answered by the default from then on."""
    await request.services.models.admin.remove_model(name, by=request.user)


ROUTES = [
    list_models,
    list_providers,
    add_provider,
    change_provider,
    remove_provider,
    list_entries,
    add_model,
    change_model,
    remove_model,
]
