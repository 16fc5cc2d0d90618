"""What administrators do, by the Python client: ``client.admin``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from chatcluster.client.tool_calls import Json, segment


class Administration:
    """Each call needs an administrator's token; otherwise it raises ``ApiError`` with the code ``forbidden``."""

    def __init__(self, read: Callable[..., Awaitable[Json]], write: Callable[..., Awaitable[Json]]) -> None:
        self._read = read
        self._write = write

    async def replicas(self) -> list[Json]:
        """All replicas that the database knows of."""
        replicas: list[Json] = (await self._read("/replicas"))["replicas"]
        return replicas

    async def drain(self, worker_id: str) -> Json:
        """Ask a replica to drain; its process ends."""
        return await self._write("POST", f"/admin/replicas/{segment(worker_id)}/drain")

    async def takeovers(self, **query: Any) -> Json:
        """A page of ``takeovers``, newest first. Query: ``chat``, ``worker``, ``cause``, ``before``, ``limit``."""
        return await self._read("/admin/takeovers", query)

    async def chats(self, **query: Any) -> Json:
        """A page of the ``chats`` of all users, each with its ``user``. Query: ``user``, ``status``, ``worker``,
        ``archived``, ``q``, ``after``, ``limit``."""
        return await self._read("/admin/chats", query)

    async def users(self, **query: Any) -> Json:
        """A page of ``users`` by name. Query: ``after``, ``limit``."""
        return await self._read("/admin/users", query)

    async def audit(self, **query: Any) -> Json:
        """A page of ``entries``: what administrators did, newest first. Query: ``before``, ``limit``."""
        return await self._read("/admin/audit", query)

    async def system_prompt(self) -> str | None:
        """What every chat of the deployment begins with."""
        text: str | None = (await self._read("/config/system-prompt"))["prompt"]
        return text

    async def set_system_prompt(self, prompt: str | None) -> None:
        """What models are told in every chat, from each chat's next turn on; None is nothing."""
        await self._write("PUT", "/config/system-prompt", {"prompt": prompt})

    async def usage(self, **query: Any) -> Json:
        """What the chats of all cost. Query: ``from``, ``to``, ``group_by`` (user, day, model, chat), ``user``."""
        return await self._read("/admin/usage", query)

    async def series(self, span: str = "1h") -> Json:
        """What the cluster did: ``points`` in steps of ``step_seconds``. ``span``: 15m, 1h, 6h, 1d or 7d."""
        return await self._read("/admin/series", {"span": span})

    async def limits(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/limits"))["limits"]
        return answer

    async def set_limit(self, **fields: Any) -> Json:
        """Fields: ``subject``, ``period``, and ``name``, ``cost_micros``, ``tokens``."""
        return await self._write("PUT", "/admin/limits", fields)

    async def remove_limit(self, **place: str) -> None:
        await self._write("DELETE", f"/admin/limits?{urlencode(place)}")

    async def group_members(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/groups"))["members"]
        return answer

    async def add_to_group(self, group: str, user: str) -> Json:
        return await self._write("PUT", "/admin/groups", {"group": group, "user": user})

    async def remove_from_group(self, group: str, user: str) -> None:
        await self._write("DELETE", f"/admin/groups?{urlencode({'group': group, 'user': user})}")

    # providers of models, and models

    async def providers(self) -> list[Json]:
        answer: list[Json] = (await self._read("/admin/providers"))["providers"]
        return answer

    async def add_provider(self, name: str, **fields: Any) -> Json:
        """Fields: ``base_url``, and ``kind``, ``key``, ``enabled``, ``options``."""
        return await self._write("POST", "/admin/providers", {"name": name, **fields})

    async def change_provider(self, name: str, **fields: Any) -> Json:
        """What is left away stays; a ``key`` of None removes the key."""
        return await self._write("PATCH", f"/admin/providers/{segment(name)}", fields)

    async def remove_provider(self, name: str) -> None:
        await self._write("DELETE", f"/admin/providers/{segment(name)}")

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
