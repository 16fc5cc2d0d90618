"""The tools for files in the chat's workspace: they act inside of it, so a link there leads nowhere else.

``read_file`` gives a piece that a model can take, and where to go on; an image is given as one. Writes and edits are
calls in the agent's ledger, done once; an edit of several files takes place in all of them or in none.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from chatcluster.agents import as_text
from chatcluster.file_errors import UnsupportedFile
from chatcluster.file_types import IMAGES, Sniffer
from chatcluster.parts import ImagePart, ResultContent, TextPart, storable
from chatcluster.ports import Tell, ToolCall, ToolResult
from chatcluster.tools.workspace_calls import WorkspaceCalls
from chatcluster.tools.workspace_link import Link, Refused
from chatcluster.workspace_wire import CallAnswer, CallState, FileAnswer, Kind

PIECE_BYTES = 24 << 10
"""What is read at a time, unless fewer are asked for."""
CHARACTER_BYTES_MAX = 4
"""A limit below this might leave no whole character, and no way on."""
SHOWN_BYTES_MAX = 30 << 10
IMAGE_BYTES_MAX = 8 << 20
SNIFFED_BYTES = 4096
NO_MEDIA_TYPE = "application/octet-stream"
"""None that is known."""
NO_TEXT = "This is no text. To look into it, use execute, with xxd or file for example."


class FileTools:
    """The tools for files, of one chat, for one turn."""

    def __init__(self, link: Link, calls: WorkspaceCalls) -> None:
        self._link = link
        self._calls = calls

    async def read_file(self, call: ToolCall, _tell: Tell) -> ToolResult:
        path = call.arguments["path"]
        offset = int(call.arguments.get("offset") or 0)
        limit = max(CHARACTER_BYTES_MAX, min(int(call.arguments.get("limit") or PIECE_BYTES), PIECE_BYTES))
        found = await self._link.ask(lambda place: place.read_file(path, offset=offset, limit=limit))
        media_type = _media_type(found) if offset == 0 else NO_MEDIA_TYPE if found.is_binary else "text/plain"
        if media_type in IMAGES and found.size_bytes <= IMAGE_BYTES_MAX:
            return await self._image(found, media_type)
        if found.is_binary:
            told = {"content": "", "mime_type": media_type, "size_bytes": found.size_bytes, "note": NO_TEXT}
            return _told(told)
        return _told(_piece(found))

    async def write_file(self, call: ToolCall, tell: Tell) -> ToolResult:
        asked = {"path": call.arguments["path"], "content": call.arguments["content"]}
        answer = await self._done(call, Kind.WRITE_FILE, asked, tell)
        return _told({"ok": True, **(answer.result or {})})

    async def edit_files(self, call: ToolCall, tell: Tell) -> ToolResult:
        files = call.arguments.get("files")
        if not files:
            raise Refused("files is required: name at least one file, with its edits.")
        answer = await self._done(call, Kind.EDIT_FILES, {"files": files}, tell)
        return _told({"ok": True, **(answer.result or {})})

    async def _done(self, call: ToolCall, kind: Kind, asked: dict[str, Any], tell: Tell) -> CallAnswer:
        answer = await self._calls.run(call, kind, asked, tell)
        if answer.state is not CallState.EXITED:
            raise Refused(storable(answer.error or f"The call was {answer.state}."))
        return answer

    async def _image(self, found: FileAnswer, media_type: str) -> ToolResult:
        data = bytearray(found.content)
        while len(data) < found.size_bytes:
            offset = len(data)
            piece = await self._link.ask(
                lambda place, offset=offset: place.read_file(  # type: ignore[misc]
                    found.path, offset=offset, limit=IMAGE_BYTES_MAX
                )
            )
            if not piece.content:
                break
            data += piece.content
        told = {"content": "", "mime_type": media_type, "size_bytes": found.size_bytes}
        return _told(told, ImagePart(media_type, base64.b64encode(data).decode()))


def _piece(found: FileAnswer) -> dict[str, Any]:
    """A piece of text that ends between two characters, and fits what a model is shown."""
    data = found.content
    while True:
        start = 0
        while found.offset and start < min(4, len(data)) and data[start] & 0xC0 == 0x80:
            start += 1  # the rest of a character that began before
        ends_file = found.offset + len(data) >= found.size_bytes
        text = data[start:].decode("utf-8", "replace" if ends_file else "ignore")
        end = found.size_bytes if ends_file else found.offset + start + len(text.encode())
        told: dict[str, Any] = {"content": storable(text), "mime_type": "text/plain", "size_bytes": found.size_bytes}
        if found.offset or end < found.size_bytes:
            told |= {"offset": found.offset + start, "next_offset": end}
        if end < found.size_bytes:
            told["truncated"] = True
        if len(as_text(told).encode()) <= SHOWN_BYTES_MAX or len(data) < SNIFFED_BYTES:
            return told
        data = data[: len(data) * 3 // 4]


def _media_type(found: FileAnswer) -> str:
    sniffer = Sniffer()
    with suppress(UnsupportedFile):
        sniffer.feed(found.content[:SNIFFED_BYTES])
        return sniffer.media_type()
    return NO_MEDIA_TYPE if found.is_binary else "text/plain"


def _told(told: dict[str, Any], *more: ResultContent) -> ToolResult:
    content: Sequence[ResultContent] = (TextPart(as_text(told)), *more)
    return ToolResult(tuple(content))
