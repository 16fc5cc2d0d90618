"""Routes of templates: what workspaces are made of. Users see those that are offered, administrators write them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, put
from litestar.params import FromPath, JSONBody, QueryParameter

from chatcluster.ports import Account
from chatcluster.ports.administration import Deed
from chatcluster.ports.workspaces import Template, WorkspaceHost
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.api.messages import ID_MAX
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest
from chatcluster.workspace_errors import none_of_template
from chatcluster.workspace_templates import (
    ParameterType,
    TemplateLimits,
    TemplateSettings,
    Value,
    checked_name,
    checked_settings,
)


class ParameterAnswer(msgspec.Struct, frozen=True):
    """``default`` null: it has to be given. ``choices`` empty: any value of its type."""

    name: str
    type: ParameterType
    default: Value | None
    choices: list[Value]
    description: str


class OfferedTemplate(msgspec.Struct, frozen=True):
    """A template that a workspace can be made of."""

    id: UUID
    name: str
    display_name: str
    description: str
    parameters: list[ParameterAnswer]
    desktop: bool
    network: list[str]


class OfferedTemplatesAnswer(msgspec.Struct, frozen=True):
    templates: list[OfferedTemplate]


class TemplateAnswer(OfferedTemplate, frozen=True):
    """A template as administrators see it: with what its users are not told."""

    deprecated: bool
    base: str
    packages: list[str]
    startup: str
    limits: TemplateLimits
    activity_bump_seconds: float
    idle_stop_seconds: float
    users: list[str]
    mcp_approval: str
    revision: int
    created_at: datetime | None
    updated_at: datetime | None


class TemplatesAnswer(msgspec.Struct, frozen=True):
    templates: list[TemplateAnswer]


class HostAnswer(msgspec.Struct, frozen=True):
    """A workspace host. ``state``: ``ready``; ``unable``, with the ``problem``; ``away``, it does not answer."""

    id: UUID
    name: str
    address: str
    version: str
    provider: str
    state: str
    problem: str
    workspaces: int
    heartbeat_age_seconds: float
    started_at: datetime | None


class HostsAnswer(msgspec.Struct, frozen=True):
    hosts: list[HostAnswer]


@get("/templates", responses=REFUSALS)
async def list_templates(request: ApiRequest) -> OfferedTemplatesAnswer:
    """What workspaces can be made of."""
    found = await request.services.workspaces.rows.templates(request.user.user_id)
    return OfferedTemplatesAnswer([offered_answer(one) for one in found])


@get("/templates/{name:str}", responses=REFUSALS)
async def get_template(request: ApiRequest, name: FromPath[str]) -> OfferedTemplate:
    """One of them, by its name or its ID."""
    return offered_answer(await request.services.workspaces.rows.template(name, request.user.user_id))


# --- administrators ---------------------------------------------------------------------------


@get("/admin/templates", guards=[require_admin], responses=REFUSALS)
async def list_all_templates(request: ApiRequest) -> TemplatesAnswer:
    """All templates, with those that are not offered any more."""
    return TemplatesAnswer([template_answer(one) for one in await request.services.workspaces.rows.templates()])


@get("/admin/templates/{name:str}", guards=[require_admin], responses=REFUSALS)
async def get_whole_template(request: ApiRequest, name: FromPath[str]) -> TemplateAnswer:
    """One template, by its name or its ID."""
    return template_answer(await request.services.workspaces.rows.template(name))


@put("/admin/templates/{name:str}", guards=[require_admin], responses=REFUSALS)
async def put_template(
    request: ApiRequest,
    name: FromPath[str],
    data: JSONBody[TemplateSettings],
    revision: Annotated[
        int | None, QueryParameter(description="Only if it has this one still", ge=1, le=ID_MAX)
    ] = None,
) -> TemplateAnswer:
    """Make a template, or change it as a whole; what is left away is as by default. Workspaces that there are stay as
    they were made."""
    deed = _deed(request.user, "template.put", name)
    rows = request.services.workspaces.rows
    put_one = await rows.put_template(checked_name(name), checked_settings(data), deed, revision=revision)
    return template_answer(put_one)


@delete("/admin/templates/{name:str}", guards=[require_admin], responses=REFUSALS)
async def remove_template(request: ApiRequest, name: FromPath[str]) -> None:
    """Remove a template. Workspaces that were made of it stay."""
    deed = _deed(request.user, "template.delete", name)
    if not await request.services.workspaces.rows.remove_template(name, deed):
        raise none_of_template(name)


@get("/admin/workspace-hosts", guards=[require_admin], responses=REFUSALS)
async def list_hosts(request: ApiRequest) -> HostsAnswer:
    """The machines that run workspaces, as the database knows them."""
    return HostsAnswer([_host_answer(host) for host in await request.services.workspaces.hosts.hosts()])


def offered_answer(template: Template) -> OfferedTemplate:
    settings = template.settings
    return OfferedTemplate(
        id=template.id,
        name=template.name,
        display_name=settings.display_name or template.name,
        description=settings.description,
        parameters=_parameters(settings),
        desktop=settings.desktop,
        network=list(settings.network),
    )


def template_answer(template: Template) -> TemplateAnswer:
    settings = template.settings
    return TemplateAnswer(
        id=template.id,
        name=template.name,
        display_name=settings.display_name,
        description=settings.description,
        parameters=_parameters(settings),
        desktop=settings.desktop,
        network=list(settings.network),
        deprecated=settings.deprecated,
        base=settings.base,
        packages=list(settings.packages),
        startup=settings.startup,
        limits=settings.limits,
        activity_bump_seconds=settings.activity_bump_seconds,
        idle_stop_seconds=settings.idle_stop_seconds,
        users=list(settings.users),
        mcp_approval=settings.mcp_approval,
        revision=template.revision,
        created_at=template.created_at,
        updated_at=template.updated_at,
    )


def _parameters(settings: TemplateSettings) -> list[ParameterAnswer]:
    return [
        ParameterAnswer(one.name, one.type, one.default, list(one.choices), one.description)
        for one in settings.parameters
    ]


def _host_answer(host: WorkspaceHost) -> HostAnswer:
    return HostAnswer(
        id=host.id,
        name=host.name,
        address=host.address,
        version=host.version,
        provider=host.provider,
        state="away" if not host.alive else "unable" if host.problem else "ready",
        problem=host.problem,
        workspaces=host.workspaces,
        heartbeat_age_seconds=round(host.heartbeat_age_seconds, 3),
        started_at=host.started_at,
    )


def _deed(by: Account, action: str, name: str) -> Deed:
    return Deed(by, action, name[:80])


ROUTES = [
    list_templates,
    get_template,
    list_all_templates,
    get_whole_template,
    put_template,
    remove_template,
    list_hosts,
]
