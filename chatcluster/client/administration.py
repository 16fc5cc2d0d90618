"""The Python client of administrators: providers of models, and models. Its user's token has to be an administrator's.

What each method takes and returns is the JSON of the route that it is for; see the OpenAPI document of a replica.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from chatcluster.client.client import Client
from chatcluster.client.tool_calls import Json


class AdminClient(Client):
    async def providers(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/providers"))["providers"]
        return answer

    async def add_provider(self, name: str, **fields: Any) -> Json:
        """Fields: ``base_url``, and ``kind``, ``key``, ``enabled``, ``options``."""
        return await self._write("POST", "/admin/providers", {"name": name, **fields})

    async def change_provider(self, name: str, **fields: Any) -> Json:
        """What is left away stays; a ``key`` of None removes the key."""
        return await self._write("PATCH", f"/admin/providers/{quote(name, safe='')}", fields)

    async def remove_provider(self, name: str) -> None:
        await self._write("DELETE", f"/admin/providers/{quote(name, safe='')}")

    async def models(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/models"))["models"]
        return answer

    async def add_model(self, name: str, **fields: Any) -> Json:
        """Fields: ``provider``, ``provider_model``, and whatever else a model has."""
        return await self._write("POST", "/admin/models", {"name": name, **fields})

    async def change_model(self, name: str, **fields: Any) -> Json:
        """What is left away stays."""
        return await self._write("PATCH", f"/admin/model?{urlencode({'name': name})}", fields)

    async def remove_model(self, name: str) -> None:
        await self._write("DELETE", f"/admin/model?{urlencode({'name': name})}")
