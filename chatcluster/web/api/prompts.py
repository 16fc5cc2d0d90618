"""Routes of prompts: what models are told in all chats of the deployment, and in those of the caller."""

from __future__ import annotations

import msgspec
from litestar import get, put
from litestar.params import JSONBody

from chatcluster.ports.prompts import DEPLOYMENT
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.api.bodies import Prompt, checked_prompt
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest

PROMPT_BYTES_MAX = 64 << 10
"""Each turn sends it."""


class PromptAnswer(msgspec.Struct, frozen=True):
    """``prompt``: null if there is none."""

    prompt: str | None


@get("/config/system-prompt", guards=[require_admin], responses=REFUSALS)
async def get_system_prompt(request: ApiRequest) -> PromptAnswer:
    """What every chat of the deployment begins with."""
    return PromptAnswer(await request.services.models.prompts.get(DEPLOYMENT) or None)


@put("/config/system-prompt", guards=[require_admin], responses=REFUSALS)
async def put_system_prompt(request: ApiRequest, data: JSONBody[Prompt]) -> PromptAnswer:
    """What every chat of the deployment begins with, from its next turn on. Null or blank is nothing."""
    prompt = checked_prompt("prompt", data.prompt, bytes_max=PROMPT_BYTES_MAX)
    await request.services.models.prompts.put(DEPLOYMENT, prompt, by=request.user)
    return PromptAnswer(prompt or None)


@get("/me/prompt", responses=REFUSALS)
async def get_prompt(request: ApiRequest) -> PromptAnswer:
    """What models are told of the caller, in each of the caller's chats."""
    return PromptAnswer(await request.services.models.prompts.get(request.user.user_id) or None)


@put("/me/prompt", responses=REFUSALS)
async def put_prompt(request: ApiRequest, data: JSONBody[Prompt]) -> PromptAnswer:
    """What models are told of the caller, from each chat's next turn on. Null or blank is nothing."""
    prompt = checked_prompt("prompt", data.prompt, bytes_max=PROMPT_BYTES_MAX)
    await request.services.models.prompts.put(request.user.user_id, prompt)
    return PromptAnswer(prompt or None)


ROUTES = [get_system_prompt, put_system_prompt, get_prompt, put_prompt]
