"""Chats by the names that clients give them, for doors whose clients name their chats themselves.

A name is a user's own: the chat's ID is made from both, so every replica finds it, nobody finds another user's, and
nothing is kept but the chat. The ID of a chat that the user has is a name for it as well.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from chatcluster.errors import InvalidRequest
from chatcluster.ports import Chat
from chatcluster.web.request import ApiRequest, no_such_chat, parse_uuid

NAME_CHARS_MAX = 200


def checked_name(text: str) -> str:
    """Raises ``InvalidRequest`` for what is no name of a chat."""
    if not (0 < len(text) <= NAME_CHARS_MAX and text.isprintable()):
        raise InvalidRequest(f"the id of a chat has 1 to {NAME_CHARS_MAX} characters that can be seen", param="id")
    return text


def named_id(owner_id: UUID, name: str) -> UUID:
    return uuid5(owner_id, name)


async def find_chat(request: ApiRequest, name: str) -> Chat | None:
    """The user's chat of this name; None if there is none yet."""
    user_id, own = request.user.user_id, parse_uuid(name)
    ids = (named_id(user_id, name), *(() if own is None else (own,)))
    return await request.services.store.find(ids, owner_id=user_id)


async def require_chat(request: ApiRequest, name: str) -> Chat:
    """Raises ``ChatNotFound``."""
    chat = await find_chat(request, name)
    if chat is None:
        raise no_such_chat(name)
    return chat
