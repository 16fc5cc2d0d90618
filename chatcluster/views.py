"""A chat as callers see it: the JSON of the API and of the list's events. Each field is part of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.chat import ClientTool, ErrorInfo
from chatcluster.ports import Action, Chat
from chatcluster.ports.details import ChatDetails, ChatWorkspace
from chatcluster.usage import Bill


class ShownStatus(msgspec.Struct, frozen=True):
    """In which status a chat is, and who works on it: what a ``status`` event tells, and each answer about a chat."""

    status: str
    archived: bool
    epoch: int
    worker_id: UUID | None
    cause: str


class ChatAnswer(ShownStatus, frozen=True):
    id: UUID
    title: str
    pinned: bool
    model: str | None
    snapshot_version: int
    history_version: int
    queue_version: int
    attempt: int
    last_error: ErrorInfo | None
    created_at: datetime
    updated_at: datetime
    mcp_servers: tuple[str, ...] = ()
    agents: bool | None = None
    parent_id: UUID | None = None
    root_id: UUID | None = None


class ChatDetailsAnswer(ChatAnswer, frozen=True):
    """``tools``: those that the client runs. ``action_required``: the calls that wait for somebody, in call order.
    ``usage``: what all attempts cost until now; ``family_usage``: with those of its agents, null where it has none, or
    is one itself. ``system_prompt``: the chat's own, if it has one. ``workspace``: where it works."""

    tools: tuple[ClientTool, ...] = ()
    action_required: tuple[Action, ...] = ()
    usage: Bill = Bill()
    family_usage: Bill | None = None
    system_prompt: str | None = None
    workspace: ChatWorkspace | None = None


def chat_answer(chat: Chat) -> ChatAnswer:
    return ChatAnswer(**_fields_of(chat))


def chat_details_answer(details: ChatDetails) -> ChatDetailsAnswer:
    return ChatDetailsAnswer(
        **_fields_of(details.chat),
        tools=details.chat.client_tools,
        action_required=details.actions,
        usage=details.usage,
        family_usage=details.family_usage,
        system_prompt=details.own_prompt or None,
        workspace=details.workspace,
    )


def _fields_of(chat: Chat) -> dict[str, Any]:
    fields = {name: getattr(chat, name) for name in ChatAnswer.__struct_fields__ if name != "status"}
    return {**fields, "status": chat.shown_status, "root_id": chat.family_id}
