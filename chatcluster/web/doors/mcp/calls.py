"""What each tool does: one use case of ``transitions.py``, or a bounded read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.chat import Interrupt
from chatcluster.errors import InvalidRequest
from chatcluster.parts import Message
from chatcluster.ports import Outcome
from chatcluster.web.api.bodies import checked_search
from chatcluster.web.api.chats import new_chat
from chatcluster.web.api.messages import ID_MAX, sending
from chatcluster.web.api.models import usable_models
from chatcluster.web.doors.mcp import given, told
from chatcluster.web.doors.mcp.answering import answer, applied, under_key
from chatcluster.web.request import ApiRequest, parse_chat_id

PAGE_BYTES = 512 << 10


def _accepted(outcome: Outcome) -> told.Accepted:
    chat, message = outcome.chat, outcome.message if outcome.queued is None else None
    cursor = told.Cursor(chat.snapshot_version)
    return told.Accepted(
        **told.fields_of(chat),
        cursor=str(cursor),
        message_id=None if message is None else message.id,
        queued=outcome.queued is not None,
    )


async def create(request: ApiRequest, asked: given.CreateArguments) -> told.Accepted:
    idempotency = under_key(asked, "chat_create", asked.idempotency_key)
    return _accepted(await request.services.transitions.create(await new_chat(request, asked), idempotency))


async def send(request: ApiRequest, asked: given.SendArguments) -> told.Accepted:
    idempotency = under_key(asked, "chat_send", asked.idempotency_key)
    chat_id = parse_chat_id(asked.chat_id)
    return _accepted(await applied(request, chat_id, await sending(request, asked), idempotency))


async def interrupt(request: ApiRequest, asked: given.InterruptArguments) -> told.Accepted:
    idempotency = under_key(asked, "chat_interrupt", asked.idempotency_key)
    return _accepted(await applied(request, parse_chat_id(asked.chat_id), Interrupt(), idempotency))


async def read(request: ApiRequest, asked: given.ReadArguments) -> told.Read:
    chat_id, store, owner_id = parse_chat_id(asked.chat_id), request.services.store, request.user.user_id
    if asked.after is not None and asked.before is not None:
        raise InvalidRequest("after and before are of two orders; give one of them")
    limit, before = asked.limit, min(asked.before or ID_MAX, ID_MAX)
    if asked.after is not None:
        after = min(asked.after, ID_MAX)
        page = await store.list_messages(chat_id, owner_id=owner_id, after=after, limit=limit, bytes_max=PAGE_BYTES)
        return _read(chat_id, list(page.messages), page.has_more)
    newest = await store.list_newest(chat_id, owner_id=owner_id, before=before, limit=limit, bytes_max=PAGE_BYTES)
    return _read(chat_id, list(reversed(newest.messages)), newest.has_more)


def _read(chat_id: UUID, messages: list[Message], has_more: bool) -> told.Read:
    return told.Read(chat_id=chat_id, messages=list(map(told.message_told, messages)), has_more=has_more)


async def archive(request: ApiRequest, asked: given.ArchiveArguments) -> told.ChatState:
    chat = await request.owned_chat(asked.chat_id)
    transitions = request.services.transitions
    return told.state_of(await (transitions.archive(chat) if asked.archived else transitions.unarchive(chat)))


async def list_chats(request: ApiRequest, asked: given.ListArguments) -> told.Chats:
    chats = await request.services.store.list_chats(
        request.user.user_id,
        archived=asked.archived,
        limit=asked.limit + 1,
        after=None if asked.after is None else parse_chat_id(asked.after),
        words=checked_search(asked.query),
    )
    return told.Chats(list(map(told.state_of, chats[: asked.limit])), len(chats) > asked.limit)


async def list_models(request: ApiRequest, _: given.ModelsArguments) -> told.Models:
    return told.Models((await usable_models(request)).models)


CALLS: dict[str, Callable[[ApiRequest, Any], Awaitable[msgspec.Struct]]] = {
    "chat_create": create,
    "chat_send": send,
    "chat_read": read,
    "chat_interrupt": interrupt,
    "chat_answer": answer,
    "chat_archive": archive,
    "chats_list": list_chats,
    "models_list": list_models,
}
"""What runs each tool; all but ``chat_wait``, which takes time."""
