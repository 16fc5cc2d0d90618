"""The Python client for workspaces and their templates. To write templates the user's token has to be an
administrator's.

What each method takes and returns is the JSON of the route that it is for; see the OpenAPI document of a replica.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from chatcluster.client.client import Client
from chatcluster.client.tool_calls import Json, segment


class WorkspaceClient(Client):
    # templates

    async def templates(self) -> list[Json]:
        """The templates that are offered to this user."""
        answer: list[Json] = (await self._read("/templates"))["templates"]
        return answer

    async def all_templates(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/templates"))["templates"]
        return answer

    async def template(self, name: str) -> Json:
        """All that there is to know of a template, for administrators."""
        return await self._read(f"/admin/templates/{segment(name)}")

    async def put_template(self, name: str, *, revision: int | None = None, **settings: Any) -> Json:
        """Make it, or change it as a whole; with a ``revision`` only if it has that one still."""
        query = "" if revision is None else f"?{urlencode({'revision': revision})}"
        return await self._write("PUT", f"/admin/templates/{segment(name)}{query}", settings)

    async def remove_template(self, name: str) -> None:
        await self._write("DELETE", f"/admin/templates/{segment(name)}")

    # workspaces

    async def workspaces(self) -> list[Json]:
        """One's own, newest first."""
        answer: list[Json] = (await self._read("/workspaces"))["workspaces"]
        return answer

    async def create_workspace(self, chat_id: UUID | str, template: str, **fields: Any) -> Json:
        """Make a chat's, unless it has one; fields: ``name``, ``parameters``. Returns ``workspace``, ``changed``."""
        body = {"chat_id": str(chat_id), "template": template, **fields}
        return await self._write("POST", "/workspaces", body)

    async def workspace(self, workspace_id: UUID | str) -> Json:
        return await self._read(_path(workspace_id))

    async def start_workspace(self, workspace_id: UUID | str) -> Json:
        """Returns ``workspace`` and ``changed``; it is started soon after."""
        return await self._write("POST", f"{_path(workspace_id)}/start")

    async def stop_workspace(self, workspace_id: UUID | str) -> Json:
        return await self._write("POST", f"{_path(workspace_id)}/stop")

    async def delete_workspace(self, workspace_id: UUID | str) -> None:
        await self._write("DELETE", _path(workspace_id))

    async def workspace_log(self, workspace_id: UUID | str, *, after: int = 0, limit: int = 200) -> list[Json]:
        """Lines behind the number ``after``."""
        query = {"after": after, "limit": limit}
        answer: list[Json] = (await self._read(f"{_path(workspace_id)}/logs", query))["lines"]
        return answer

    async def workspace_hosts(self) -> list[Json]:
        """The hosts of workspaces, for administrators."""
        answer: list[Json] = (await self._read("/admin/workspace-hosts"))["hosts"]
        return answer


def _path(workspace_id: UUID | str) -> str:
    return f"/workspaces/{segment(workspace_id)}"
