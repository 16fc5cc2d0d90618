"""What the tools give: answers that a model can read, bounded in size. Pure.

A **cursor** is a version of the chat, and where a page was not the last, the message that it ended with. It says what
was told already; it means the same on every replica, and after each of them is gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from chatcluster.chat import ErrorInfo
from chatcluster.content import FilePart, SourcePart, seen, text_of
from chatcluster.errors import InvalidCursor
from chatcluster.parts import ImagePart, Message, Role, ToolCallPart, ToolResultPart
from chatcluster.ports import Action, Chat, ChatRead
from chatcluster.web.api.models import ModelAnswer
from chatcluster.web.doors.approvals import SignIn
from chatcluster.web.doors.chunks import arguments_of

TEXT_CHARS_MAX = 100_000
"""The most of one text in an answer. Clients take a mebibyte at a time, and models less."""
AT_REST = ("waiting", "error", "requires_action")

_CURSOR = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)


class Cursor(NamedTuple):
    version: int
    message_id: int = 0

    def __str__(self) -> str:
        return f"{self.version}.{self.message_id}" if self.message_id else str(self.version)


def parse_cursor(text: str) -> Cursor:
    """Raises ``InvalidCursor``."""
    match = _CURSOR.fullmatch(text.strip())
    if match is None:
        raise InvalidCursor("not a cursor of chat_wait, chat_create or chat_send; leave it away", cursor=text[:80])
    return Cursor(int(match[1]), int(match[2] or 0))


class ChatState(msgspec.Struct, frozen=True, kw_only=True):
    """A chat. ``status``: waiting (for a message), pending, running, interrupting, requires_action or error."""

    chat_id: UUID
    title: str
    status: str
    archived: bool
    model: str | None
    updated_at: str


class Accepted(ChatState, frozen=True, kw_only=True):
    """``cursor``: from just before the answer on, for chat_wait. ``queued``: the message waits until the turn under way
    is over."""

    cursor: str
    message_id: int | None = None
    queued: bool = False


class Waited(msgspec.Struct, frozen=True, kw_only=True):
    """``text``: what the model said after the cursor that was given. ``actions``: the calls that wait for somebody.
    ``next``: what to do now."""

    chat_id: UUID
    status: str
    cursor: str
    text: str
    actions: tuple[Action, ...]
    next: str
    error: ErrorInfo | None = None


class Call(msgspec.Struct, frozen=True):
    call_id: str
    name: str
    arguments: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A message: its text, the calls in it, or their results."""

    id: int
    role: str
    text: str
    calls: list[Call] = []
    finish_reason: str | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Messages in order. ``has_more``: behind them if ``after`` was given, otherwise before them."""

    chat_id: UUID
    messages: list[Told]
    has_more: bool


class Answered(ChatState, frozen=True, kw_only=True):
    """``answered``: the calls that were."""

    answered: list[str]
    cursor: str


class Chats(msgspec.Struct, frozen=True):
    chats: list[ChatState]
    has_more: bool


class Models(msgspec.Struct, frozen=True):
    models: list[ModelAnswer]


def state_of(chat: Chat) -> ChatState:
    return ChatState(**fields_of(chat))


def fields_of(chat: Chat) -> dict[str, Any]:
    return {
        "chat_id": chat.id,
        "title": chat.title,
        "status": chat.shown_status,
        "archived": chat.archived,
        "model": chat.model,
        "updated_at": chat.updated_at.isoformat(timespec="seconds"),
    }


def is_at_rest(status: str, archived: bool) -> bool:
    """Whether the chat does nothing before somebody does something."""
    return archived or status in AT_REST


def message_told(message: Message) -> Told:
    calls = [
        Call(part.id, part.name, cut(arguments_of(part))) for part in message.parts if isinstance(part, ToolCallPart)
    ]
    return Told(
        id=message.id,
        role=str(message.role),
        text=cut(_said(message)),
        calls=calls,
        finish_reason=message.finish_reason,
    )


def _said(message: Message) -> str:
    texts = [text_of(message.parts)]
    for part in seen(message.parts):
        match part:
            case ToolResultPart(call_id=call_id):
                texts.append(f"[{'failed' if part.is_error else 'result'} of {call_id}] {part.text}")
            case SourcePart(url=url, title=title):
                texts.append(f"[source {title} {url}]" if title else f"[source {url}]")
            case FilePart(name=name):
                texts.append(f"[file {name}]")
            case ImagePart():
                texts.append("[image]")
    return "\n".join(filter(None, texts))


def cut(text: str) -> str:
    """The beginning of what is longer than an answer may be, and how much is left out."""
    if len(text) <= TEXT_CHARS_MAX:
        return text
    return f"{text[:TEXT_CHARS_MAX]}\n[{len(text) - TEXT_CHARS_MAX} characters more; the API's messages have all]"


def waited(read: ChatRead, cursor: Cursor) -> Waited:
    """What a consistent read after the cursor says. Of many messages it tells those that fit, and the cursor so far."""
    texts: list[str] = []
    size, shown, end = 0, read.chat.shown_status, Cursor(read.chat.snapshot_version)
    for one in read.messages:
        text = cut(_said(one)) if one.role is Role.ASSISTANT else ""
        if texts and size + len(text) > TEXT_CHARS_MAX:
            return _waited(read, texts, Cursor(one.revision - 1, end.message_id), "more")
        end = end._replace(message_id=one.id)
        size += len(text)
        texts.extend(filter(None, [text]))
    if read.next_revision is not None:
        return _waited(read, texts, Cursor(read.next_revision - 1, read.messages[-1].id), "more")
    last = Cursor(max(read.chat.snapshot_version, cursor.version))
    return _waited(read, texts, last, "archived" if read.chat.archived else shown)


def _waited(read: ChatRead, texts: list[str], cursor: Cursor, what: str) -> Waited:
    chat = read.chat
    return Waited(
        chat_id=chat.id,
        status=chat.shown_status,
        cursor=str(cursor),
        text="\n\n".join(texts),
        actions=read.actions,
        next=_next(what, read.actions),
        error=chat.last_error,
    )


def _next(what: str, actions: Sequence[Action]) -> str:
    servers = sorted({SignIn.of(action.name) for action in actions if action.kind == "sign_in"})
    if what != "requires_action" or not servers:
        return NEXT.get(what, NEXT["running"])
    where = ", ".join(f"POST {one.begins_at}" for one in servers)
    return f"{NEXT[what]} A sign_in is the user's, on the page or by the address that {where} answers with: say so."


NEXT = {
    "waiting": "The answer is complete. Go on with chat_send.",
    "error": "The turn failed, see error. chat_send tries again with a new message.",
    "requires_action": "Calls wait for somebody, see actions. Answer those that are yours with chat_answer, then wait.",
    "archived": "The chat is archived. chat_archive with archived=false takes it out.",
    "more": "There is more text. Call chat_wait with this cursor.",
    "running": "The chat is still at work. Call chat_wait with this cursor.",
}
