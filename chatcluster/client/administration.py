"""What administrators do, by the Python client: ``client.admin``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

Json = dict[str, Any]


class Administration:
    """Each call needs an administrator's token; otherwise it raises ``ApiError`` with the code ``forbidden``."""

    def __init__(self, read: Callable[..., Awaitable[Json]], write: Callable[..., Awaitable[Json]]) -> None:
        self._read = read
        self._write = write

    async def replicas(self) -> list[Json]:
        """All that the database knows of."""
        replicas: list[Json] = (await self._read("/replicas"))["replicas"]
        return replicas

    async def drain(self, worker_id: str) -> Json:
        """Ask a replica to drain; its process ends."""
        return await self._write("POST", f"/admin/replicas/{quote(str(worker_id), safe='')}/drain")

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
