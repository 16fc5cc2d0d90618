"""Routes of workspaces: which a user has, how each fares, and what is wanted of it. Hosts do the rest."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from chatcluster.ports.workspaces import LOG_LINES_MAX, Asked, LogLine, NewWorkspace, WorkspaceRow
from chatcluster.texts import checked_line
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.api.bodies import Body
from chatcluster.web.api.messages import ID_MAX
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest
from chatcluster.workspace_errors import no_workspace
from chatcluster.workspace_names import NAME_CHARS_MAX, drawn_name
from chatcluster.workspace_templates import Value

LOG_LIMIT_DEFAULT = 200


class CreateWorkspace(Body, frozen=True, kw_only=True):
    """A workspace for a chat of one's own."""

    chat_id: UUID
    template: Annotated[str, msgspec.Meta(description="Its name, or its ID")]
    name: Annotated[str | None, msgspec.Meta(description="Default: the template's, and four characters")] = None
    parameters: dict[str, Any] | None = None


class WorkspaceAnswer(msgspec.Struct, frozen=True):
    """``state``: building, starting, running, stopping, stopped, failed or lost; ``detail`` says why, where somebody
    ought to know. ``startup``, of its start-up script: none, running, succeeded or failed. ``replaced``: its chat has
    another one by now. ``expires_at``: it is stopped then, if nobody works in it before."""

    id: UUID
    chat_id: UUID
    name: str
    template: str
    state: str
    detail: str
    startup: str
    parameters: dict[str, Value]
    desktop: bool
    replaced: bool
    expires_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime | None
    started_at: datetime | None


class AskedAnswer(msgspec.Struct, frozen=True):
    """``changed`` is false where it was so already."""

    workspace: WorkspaceAnswer
    changed: bool


class WorkspacesAnswer(msgspec.Struct, frozen=True):
    workspaces: list[WorkspaceAnswer]


class UsersWorkspaceAnswer(msgspec.Struct, frozen=True):
    workspace: WorkspaceAnswer
    owner_id: UUID


class UsersWorkspacesAnswer(msgspec.Struct, frozen=True):
    workspaces: list[UsersWorkspaceAnswer]


class LogAnswer(msgspec.Struct, frozen=True):
    """Read on from the ``number`` of the last line."""

    lines: tuple[LogLine, ...]


@get("/workspaces", responses=REFUSALS)
async def list_workspaces(request: ApiRequest) -> WorkspacesAnswer:
    """The workspaces of the caller, newest first."""
    rows = await request.services.workspaces.rows.workspaces(request.user.user_id)
    return WorkspacesAnswer([workspace_answer(row) for row in rows])


@post("/workspaces", responses=REFUSALS)
async def create_workspace(request: ApiRequest, data: JSONBody[CreateWorkspace]) -> AskedAnswer:
    """Make a workspace for a chat. One that there is, and is of use, is returned as it is. An agent's is that of the
    chat at the top of its family."""
    chat = await request.owned_chat(str(data.chat_id))
    name = drawn_name(data.template) if data.name is None else checked_line("name", data.name, chars_max=NAME_CHARS_MAX)
    new = NewWorkspace(
        owner_id=request.user.user_id,
        chat_id=chat.family_id,
        template=data.template,
        name=name,
        parameters=data.parameters or {},
    )
    services = request.services
    return _asked(await services.workspaces.rows.create(new, per_user_max=services.settings.tools.workspaces_per_user))


@get("/workspaces/{workspace_id:str}", responses=REFUSALS)
async def get_workspace(request: ApiRequest, workspace_id: FromPath[str]) -> WorkspaceAnswer:
    """One workspace."""
    rows = request.services.workspaces.rows
    return workspace_answer(await rows.workspace(_id(workspace_id), request.user.user_id))


@post("/workspaces/{workspace_id:str}/start", status_code=202, responses=REFUSALS)
async def start_workspace(request: ApiRequest, workspace_id: FromPath[str]) -> AskedAnswer:
    """Start a workspace that is stopped, failed or lost."""
    rows = request.services.workspaces.rows
    return _asked(await rows.start(_id(workspace_id), request.user.user_id))


@post("/workspaces/{workspace_id:str}/stop", status_code=202, responses=REFUSALS)
async def stop_workspace(request: ApiRequest, workspace_id: FromPath[str]) -> AskedAnswer:
    """End all that runs in a workspace. Its files stay."""
    rows = request.services.workspaces.rows
    return _asked(await rows.stop(_id(workspace_id), request.user.user_id))


@delete("/workspaces/{workspace_id:str}", responses=REFUSALS)
async def delete_workspace(request: ApiRequest, workspace_id: FromPath[str]) -> None:
    """Delete a workspace, with all its files, for good."""
    await request.services.workspaces.rows.delete(_id(workspace_id), request.user.user_id)


@get("/workspaces/{workspace_id:str}/logs", responses=REFUSALS)
async def read_log(
    request: ApiRequest,
    workspace_id: FromPath[str],
    after: Annotated[int, QueryParameter(ge=0, le=ID_MAX, description="Only lines behind this number")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=LOG_LINES_MAX)] = LOG_LIMIT_DEFAULT,
) -> LogAnswer:
    """What was said while the workspace was made and started: lines of its build, its start-up script and its host."""
    rows, parsed = request.services.workspaces.rows, _id(workspace_id)
    await rows.workspace(parsed, request.user.user_id)
    return LogAnswer(await rows.log(parsed, after=after, limit=limit))


@get("/admin/workspaces", guards=[require_admin], responses=REFUSALS)
async def list_all_workspaces(request: ApiRequest) -> UsersWorkspacesAnswer:
    """The workspaces of all users, newest first, at most a thousand."""
    rows = await request.services.workspaces.rows.workspaces()
    return UsersWorkspacesAnswer([UsersWorkspaceAnswer(workspace_answer(row), row.owner_id) for row in rows])


def workspace_answer(row: WorkspaceRow) -> WorkspaceAnswer:
    return WorkspaceAnswer(
        id=row.id,
        chat_id=row.chat_id,
        name=row.name,
        template=row.made_of.template_name,
        state=row.state,
        detail=row.detail,
        startup=row.startup,
        parameters=row.made_of.parameters,
        desktop=row.made_of.settings.desktop,
        replaced=row.replaced,
        expires_at=row.times.expires_at,
        last_used_at=row.times.last_used_at,
        created_at=row.times.created_at,
        started_at=row.times.started_at,
    )


def _asked(asked: Asked) -> AskedAnswer:
    return AskedAnswer(workspace_answer(asked.workspace), asked.changed)


def _id(text: str) -> UUID:
    """Raises ``WorkspaceNotFound`` for what is no ID: there is no such workspace."""
    try:
        return UUID(text)
    except ValueError:
        raise no_workspace() from None


ROUTES = [
    list_workspaces,
    create_workspace,
    get_workspace,
    start_workspace,
    stop_workspace,
    delete_workspace,
    read_log,
    list_all_workspaces,
]
