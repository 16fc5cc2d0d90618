"""The route that gives a chat out of the house: its history as one document, read and sent a page at a time.

It is what the history is while it is read: a chat that is edited meanwhile may be told in part as it was. A page that
cannot be read breaks the answer off, without the end that a whole one has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Annotated
from urllib.parse import quote

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, QueryParameter

from chatcluster.parts import Message, encode, shown
from chatcluster.ports import Chat, Store
from chatcluster.transcript import heading, markdown_of
from chatcluster.views import chat_answer
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.http.download import Download
from chatcluster.web.request import ApiRequest

PAGE_MESSAGES = 200
PAGE_BYTES = 1 << 20
WHOLE = ResponseSpec(
    data_container=str, media_type="text/markdown", generate_examples=False, description="The document"
)


class Format(StrEnum):
    MARKDOWN = "markdown"
    JSON = "json"


MEDIA_TYPES = {Format.MARKDOWN: "text/markdown; charset=utf-8", Format.JSON: "application/json"}
SUFFIXES = {Format.MARKDOWN: "md", Format.JSON: "json"}


@get("/chats/{chat_id:str}/export", responses={**REFUSALS, 200: WHOLE})
async def export_chat(
    request: ApiRequest,
    chat_id: FromPath[str],
    format: Annotated[Format, QueryParameter(description="For people, or for programs: the chat and its messages")] = (
        Format.MARKDOWN
    ),
) -> Download:
    """A chat as one document, as a download: in Markdown, or as JSON `{chat, messages}`."""
    chat = await request.owned_chat(chat_id)
    name = quote(f"{chat.title}.{SUFFIXES[format]}", safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return Download(_Document(request.services.store, chat, format), media_type=MEDIA_TYPES[format], headers=headers)


class _Document:
    """The pieces of a document. No generator: one whose reader leaves would be dropped where it stands."""

    def __init__(self, store: Store, chat: Chat, form: Format) -> None:
        self._store = store
        self._chat = chat
        self._form = form
        self._last_id = 0
        self._pieces = self._beginning()
        self._has_more = True

    def __aiter__(self) -> _Document:
        return self

    async def __anext__(self) -> bytes:
        piece = next(self._pieces, None)
        while piece is None and self._has_more:
            await self._read_page()
            piece = next(self._pieces, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def _read_page(self) -> None:
        chat = self._chat
        page = await self._store.list_messages(
            chat.id, owner_id=chat.owner_id, after=self._last_id, limit=PAGE_MESSAGES, bytes_max=PAGE_BYTES
        )
        is_first, self._has_more = self._last_id == 0, page.has_more
        if page.messages:
            self._last_id = page.messages[-1].id
        self._pieces = self._messages(page.messages, is_first)

    def _beginning(self) -> Iterator[bytes]:
        if self._form is Format.MARKDOWN:
            yield heading(self._chat.title).encode()
        else:
            yield b'{"chat":%s,"messages":[' % encode(chat_answer(self._chat))

    def _messages(self, messages: Iterable[Message], is_first: bool) -> Iterator[bytes]:
        for message in messages:
            if self._form is Format.MARKDOWN:
                yield markdown_of(message).encode()
            else:
                yield (b"" if is_first else b",") + encode(shown(message))
            is_first = False
        if self._form is Format.JSON and not self._has_more:
            yield b"]}"


ROUTES = [export_chat]
