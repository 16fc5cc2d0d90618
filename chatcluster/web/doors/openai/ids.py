"""The IDs of this door, which say what they are of: a chat, or a message in it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from chatcluster.errors import NotFound

_RESPONSE = re.compile(r"resp_([0-9a-f]{32})([0-9a-f]{1,15})")
_CONVERSATION = re.compile(r"conv_([0-9a-f]{32})")


class ResponseNotFound(NotFound):
    """It may have been deleted, or have been one that is not kept."""

    code = "response_not_found"


class ConversationNotFound(NotFound):
    code = "conversation_not_found"


class ItemNotFound(NotFound):
    """There is no such item in this conversation."""

    code = "item_not_found"


class ResponseKey(NamedTuple):
    chat_id: UUID
    message_id: int


def response_id(chat_id: UUID, message_id: int) -> str:
    return f"resp_{chat_id.hex}{message_id:x}"


def parse_response_id(text: str) -> ResponseKey:
    """Raises ``ResponseNotFound``: what cannot be one is not found like any other unknown one."""
    match = _RESPONSE.fullmatch(text)
    if match is None:
        raise no_such_response(text)
    return ResponseKey(UUID(match[1]), int(match[2], 16))


def no_such_response(text: str) -> ResponseNotFound:
    return ResponseNotFound(f"there is no response {text[:80]!r}, or it is not yours")


def conversation_id(chat_id: UUID) -> str:
    return f"conv_{chat_id.hex}"


def parse_conversation_id(text: str) -> UUID:
    """Raises ``ConversationNotFound``."""
    match = _CONVERSATION.fullmatch(text)
    if match is None:
        raise no_such_conversation(text)
    return UUID(match[1])


def no_such_conversation(text: str) -> ConversationNotFound:
    return ConversationNotFound(f"there is no conversation {text[:80]!r}, or it is not yours")
