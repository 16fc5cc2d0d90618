"""What administrators do, by the Python client: ``client.admin``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

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
