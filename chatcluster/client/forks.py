"""What a client does to copy chats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from uuid import UUID

from chatcluster.client.tool_calls import Json, segment


class Forks(ABC):
    """A part of ``Client``."""

    async def fork(self, chat_id: UUID | str, message_id: int | None = None, *, key: str | None = None) -> Json:
        """A new chat with the history up to this message, which ends a turn; or with all whole turns. Returns it."""
        body = {} if message_id is None else {"message_id": message_id}
        return await self._write("POST", f"/chats/{segment(chat_id)}/fork", body, key=key)

    @abstractmethod
    async def _write(self, method: str, path: str, body: Json | None = None, *, key: str | None = None) -> Json: ...
