"""Files of a client's user: uploaded, listed, downloaded, deleted. To send one along, name it in a message."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from chatcluster.client.tool_calls import Json, segment

TRANSFER_SECONDS = 300.0
"""The time for a file each way, however slow the line is."""


class FileTransfers(ABC):
    """A part of ``Client``."""

    async def upload(self, file: Path | bytes, name: str | None = None) -> Json:
        """Upload a file, or its bytes; ``name`` is by default that of its path. Returns what is known of it: ``id``.

        Repeated if the answer is lost: a copy that nothing refers to is gone a day later. Raises ``OSError`` for a path
        that cannot be read.
        """
        if isinstance(file, Path):
            name = name or file.name
            file = await trio.to_thread.run_sync(file.read_bytes)
        return await self._upload("/files", file, {} if name is None else {"name": name})

    async def files(self, **query: Any) -> Json:
        """A page of files, newest first, and how much room they take. Query: ``limit``, ``after``."""
        return await self._read("/files", query)

    async def file(self, file_id: UUID | str) -> Json:
        """A file's name, type, size and digest."""
        return await self._read(f"/files/{segment(file_id)}/metadata")

    async def download(self, file_id: UUID | str) -> bytes:
        """The bytes of a file."""
        return await self._download(f"/files/{segment(file_id)}")

    async def delete_file(self, file_id: UUID | str) -> None:
        """Raises ``ApiError`` (``file_in_use``) for one that a chat has."""
        await self._write("DELETE", f"/files/{segment(file_id)}")

    @abstractmethod
    async def _read(self, path: str, query: Json | None = None) -> Json: ...

    @abstractmethod
    async def _write(self, method: str, path: str, body: Json | None = None, *, key: str | None = None) -> Json: ...

    @abstractmethod
    async def _upload(self, path: str, data: bytes, query: Json) -> Json: ...

    @abstractmethod
    async def _download(self, path: str, query: Json | None = None) -> bytes: ...


def file_part(file: Json) -> Json:
    """An uploaded file as a part of a message's content."""
    return {"type": "file", "file_id": file["id"]}
