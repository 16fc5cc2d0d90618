"""Routes of what has changed in a chat's workspace."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import FromPath, QueryParameter

from chatcluster.ports.workspace_diffs import DiffStatus
from chatcluster.ports.workspaces import WorkspaceRow, WorkspaceState
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.request import ApiRequest
from chatcluster.workspace_changes import NoDiff, WorkspaceChanges
from chatcluster.workspace_errors import WorkspaceNotFound, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import DiffAnswer, DiffFile

COMMIT_CHARACTERS_MAX = 200


class ChatDiffAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What differs in the working directory from the commit ``base``: the one that was found first, or the one that
    was asked for. ``directory``: the one in it that is the repository, where the working directory itself is none.
    ``patch`` is what ``git diff`` says; files that are not tracked are in ``files`` alone. ``is_live``: it was asked
    for just now; else it is as it was at ``updated_at``, as the workspace does not run, or does not answer."""

    is_repository: bool
    directory: str
    branch: str | None
    base: str | None
    files: tuple[DiffFile, ...]
    additions: int
    deletions: int
    patch: str
    is_truncated: bool
    is_live: bool
    updated_at: datetime | None = None


class DiffStatusAnswer(msgspec.Struct, frozen=True):
    """``diff_status`` is null if nobody has looked yet."""

    chat_id: UUID
    diff_status: DiffStatus | None


@get("/chats/{chat_id:str}/diff", responses=REFUSALS)
async def get_diff(
    request: ApiRequest,
    chat_id: FromPath[str],
    base: Annotated[
        str | None,
        QueryParameter(description="A commit to compare with, such as HEAD", max_length=COMMIT_CHARACTERS_MAX),
    ] = None,
) -> ChatDiffAnswer:
    """What has changed in the chat's workspace: as it is now, or as it was found last where it does not run. An agent's
    is that of the chat at the top of its family."""
    chat = await request.owned_chat(chat_id)
    services = request.services.workspaces
    row = await services.rows.of_chat(chat.family_id)
    if row is None:
        raise WorkspaceNotFound("this chat has no workspace")
    if row.state is WorkspaceState.RUNNING:
        try:
            return _answer(await services.changes.look(row, base), is_live=True)
        except WorkspaceRefused as refused:
            raise NoDiff(str(refused)) from None
        except WorkspaceUnreachable as error:
            if base is not None:
                raise NoDiff(f"the workspace does not answer: {error}") from None
    elif base is not None:
        raise NoDiff("the workspace does not run, so only what was found last can be read: leave base away")
    return await _kept(services.changes, row)


@get("/chats/{chat_id:str}/diff-status", responses=REFUSALS)
async def get_diff_status(request: ApiRequest, chat_id: FromPath[str]) -> DiffStatusAnswer:
    """The same in short, as it was found last: what ``/watch`` tells when it changes."""
    chat = await request.owned_chat(chat_id)
    status = await request.services.workspaces.changes.status(chat.family_id)
    return DiffStatusAnswer(chat.id, status)


async def _kept(changes: WorkspaceChanges, row: WorkspaceRow) -> ChatDiffAnswer:
    found = await changes.found(row.chat_id)
    if found is None:
        raise NoDiff("the workspace does not run, and nobody has looked into it before: start it")
    return _answer(found.diff, is_live=False, updated_at=found.status.updated_at)


def _answer(diff: DiffAnswer, *, is_live: bool, updated_at: datetime | None = None) -> ChatDiffAnswer:
    names = (name for name in ChatDiffAnswer.__struct_fields__ if name not in ("is_live", "updated_at"))
    fields = {name: getattr(diff, name) for name in names}
    return ChatDiffAnswer(**fields, is_live=is_live, updated_at=updated_at)


ROUTES = [get_diff, get_diff_status]
