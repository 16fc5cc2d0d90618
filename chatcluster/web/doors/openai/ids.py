"""The IDs of this door, which say what they are of: a chat, or a message in it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from chatcluster.errors import Conflict, NotFound

_RESPONSE = re.compile(r"resp_([0-9a-f]{32})([1-9a-f][0-9a-f]{0,14})")
_ITEM = re.compile(r"(?:msg|rs|fc|mcp)_([0-9a-f]{33,47})_[0-9]{1,9}")
_KEPT_ITEM = re.compile(r"(?:msg|rs|fc|fco)_([0-9a-f]{1,15})(?:_[0-9]{1,9})?")
_REQUEST = re.compile(r"mcpr_(.{1,200})_([0-9]{1,3})", re.DOTALL)
_TIMES_SHIFT = 48
"""Above the numbers of messages."""
_CONVERSATION = re.compile(r"conv_([0-9a-f]{32})")


class ResponseNotFound(NotFound):
    """There is no such response: it was deleted, perhaps, or was one that is not kept."""

    code = "response_not_found"


class ConversationNotFound(NotFound):
    code = "conversation_not_found"


class ItemNotFound(NotFound):
    """There is no such item in this conversation, or in a response that is kept."""

    code = "item_not_found"


class ItemNotSeparable(Conflict):
    """An answer is deleted as a whole, or not at all: what is left of it would not be what its model said."""

    code = "item_not_separable"


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


def response_of_item(item_id: str) -> str | None:
    """The ID of the response that has this item in its output; None if that is not what it is."""
    match = _ITEM.fullmatch(item_id)
    return None if match is None else f"resp_{match[1]}"


def kept_item_id(kind: str, message_id: int, place: int | None = None) -> str:
    """Of an item of a conversation: what a message says, or what is at a place in it."""
    return f"{kind}_{message_id:x}" if place is None else f"{kind}_{message_id:x}_{place}"


def message_of_item(item_id: str) -> int | None:
    """The message that an item of a conversation is of, or a part of; None if that is not what it is."""
    match = _KEPT_ITEM.fullmatch(item_id)
    return None if match is None else int(match[1], 16)


def no_such_item(text: str) -> ItemNotFound:
    why = "in this conversation; list its items to see which there are"
    return ItemNotFound(f"there is no item {text[:80]!r} {why}")


def resumed_id(message_id: int, times: int) -> int:
    """The ID of the response that goes on where the calls of this message have waited for somebody so often."""
    return message_id | (times - 1) << _TIMES_SHIFT


def message_of(response: int) -> int:
    """The message that a response begins with, or goes on from."""
    return response & ((1 << _TIMES_SHIFT) - 1)


class RequestKey(NamedTuple):
    """A request to approve: ``time`` is the number of the rest that it was made in, from 0."""

    call_id: str
    time: int


def request_id(call_id: str, time: int) -> str:
    return f"mcpr_{call_id}_{time}"


def parse_request_id(text: str) -> RequestKey | None:
    match = _REQUEST.fullmatch(text)
    return None if match is None else RequestKey(match[1], int(match[2]))


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
