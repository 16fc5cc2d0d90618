"""A chat as callers see it: the JSON of the API and of the list's events. Each field is part of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.chat import ErrorInfo
from chatcluster.ports import Chat


class ChatAnswer(msgspec.Struct, frozen=True):
    id: UUID
    title: str
    status: str
    archived: bool
    pinned: bool
    cause: str
    model: str | None
    worker_id: UUID | None
    epoch: int
    snapshot_version: int
    history_version: int
    queue_version: int
    attempt: int
    last_error: ErrorInfo | None
    created_at: datetime
    updated_at: datetime


def chat_answer(chat: Chat) -> ChatAnswer:
    fields: dict[str, Any] = {name: getattr(chat, name) for name in ChatAnswer.__struct_fields__ if name != "status"}
    return ChatAnswer(status=chat.shown_status, **fields)
