"""Routes of models, as OpenAI's clients list them."""

from __future__ import annotations

from typing import Any

from litestar import get
from litestar.params import FromPath

from chatcluster.errors import ModelNotFound
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.request import ApiRequest

OWNER = "chatcluster"


async def _names(request: ApiRequest) -> list[str]:
    catalogue = await request.services.models.catalogue()
    if catalogue.is_empty:
        name = request.services.settings.llm.model
        return [name] if name else []
    return [row.name for row in catalogue.usable]


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


@get("/models", responses=REFUSALS)
async def list_models(request: ApiRequest) -> dict[str, Any]:
    """The models that a request can name, the default first, in the form of OpenAI's API."""
    return {"object": "list", "data": [_model(name) for name in await _names(request)]}


@get("/models/{model:path}", responses=REFUSALS)
async def retrieve_model(request: ApiRequest, model: FromPath[str]) -> dict[str, Any]:
    """One model. Its name may have slashes."""
    name = str(model).removeprefix("/")
    if name not in await _names(request):
        raise ModelNotFound(f"there is no model {name[:80]!r}; list them with GET /v1/models")
    return _model(name)


ROUTES = [list_models, retrieve_model]
