"""What a client says to a chat's tool calls: approvals, denials, results of tools that it runs itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any
from urllib.parse import quote
from uuid import UUID

Json = dict[str, Any]


class ToolCalls(ABC):
    """A part of ``Client``. Of several answers to a call one is taken; the others raise an ``ApiError``."""

    async def approve(self, chat_id: UUID | str, call_id: str, **fields: Any) -> Json:
        """Let a call be run. Fields: ``digest`` of the arguments that were shown, ``arguments`` in place of those,
        ``remember`` (``chat`` or ``always``). Returns the chat."""
        return await self._write("POST", f"{_call(chat_id, call_id)}/approve", fields)

    async def deny(self, chat_id: UUID | str, call_id: str, reason: str | None = None) -> Json:
        """Do not let a call be run; ``reason`` is told to the model. Returns the chat."""
        return await self._write(
            "POST", f"{_call(chat_id, call_id)}/deny", {} if reason is None else {"reason": reason}
        )

    async def answer_questions(
        self, chat_id: UUID | str, call_id: str, answers: dict[str, Json], digest: str | None = None
    ) -> Json:
        """Answer what the server of a call asks: ``{key: {action, content?}}``, the action ``accept``, ``decline`` or
        ``cancel``. ``digest`` came with the questions. Returns the chat."""
        fields = {"answers": answers, **({} if digest is None else {"digest": digest})}
        return await self._write("POST", f"{_call(chat_id, call_id)}/answer", fields)

    async def submit_results(self, chat_id: UUID | str, results: list[Json]) -> Json:
        """Results of calls that the client ran: ``[{call_id, content, is_error?}]``. Returns the chat."""
        return await self._write("POST", f"/chats/{segment(chat_id)}/tool-results", {"results": results})

    async def tool_permissions(self) -> list[Json]:
        """The tools that the user is not asked about again."""
        permissions: list[Json] = (await self._read("/me/tool-permissions"))["permissions"]
        return permissions

    async def delete_tool_permission(self, permission_id: UUID | str) -> None:
        await self._write("DELETE", f"/me/tool-permissions/{segment(permission_id)}")

    @abstractmethod
    async def _read(self, path: str, query: Json | None = None) -> Json: ...

    @abstractmethod
    async def _write(self, method: str, path: str, body: Json | None = None, *, key: str | None = None) -> Json: ...


def _call(chat_id: UUID | str, call_id: str) -> str:
    return f"/chats/{segment(chat_id)}/tool-calls/{segment(call_id)}"


def segment(value: UUID | str) -> str:
    return quote(str(value), safe="")
