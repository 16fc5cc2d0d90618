"""The Python client for servers of tools. To manage them the user's token has to be an administrator's.

What each method takes and returns is the JSON of the route that it is for; see the OpenAPI document of a replica.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from chatcluster.client.client import Client
from chatcluster.client.tool_calls import Json


class McpClient(Client):
    async def mcp_servers(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/mcp-servers"))["mcp_servers"]
        return answer

    async def mcp_server(self, slug: str) -> Json:
        return await self._read(_path(slug))

    async def add_mcp_server(self, slug: str, url: str, **fields: Any) -> Json:
        """Fields: ``auth`` and whatever else a server has."""
        return await self._write("POST", "/admin/mcp-servers", {"slug": slug, "url": url, **fields})

    async def change_mcp_server(self, slug: str, **fields: Any) -> Json:
        """Change the given fields; the others stay."""
        return await self._write("PATCH", _path(slug), fields)

    async def remove_mcp_server(self, slug: str) -> None:
        await self._write("DELETE", _path(slug))

    async def test_mcp_server(self, slug: str) -> Json:
        """Connect, and list the tools: ``ok``, and ``tools`` or ``error``."""
        return await self._write("POST", f"{_path(slug)}/test")

    async def usable_mcp_servers(self) -> list[Json]:
        """The servers that the user's chats may use."""
        answer: list[Json] = (await self._read("/mcp-servers"))["mcp_servers"]
        return answer

    async def my_mcp_servers(self) -> list[Json]:
        """The servers at which the user signs in, and whether each login is good."""
        answer: list[Json] = (await self._read("/me/mcp-servers"))["mcp_servers"]
        return answer

    async def sign_in_url(self, slug: str) -> str:
        """The address that the user's browser has to go to."""
        answer = await self._write("POST", f"/me/mcp-servers/{quote(slug, safe='')}/login")
        return str(answer["url"])

    async def sign_out(self, slug: str) -> None:
        await self._write("DELETE", f"/me/mcp-servers/{quote(slug, safe='')}/login")


def _path(slug: str) -> str:
    return f"/admin/mcp-servers/{quote(slug, safe='')}"
