"""Responses: what a front door keeps of a turn besides the chat. A part of the database, like the chats themselves."""

from __future__ import annotations

from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec


class StoredResponse(msgspec.Struct, frozen=True):
    """The answer to one message, as a caller asked for it.

    ``message_id`` begins it, in the transaction of ``revision``: a user's message, or the results of the calls that the
    one before asked for. ``parameters`` is JSON, what the door has to say of it besides what the chat says. A chat that
    was made for a ``transient`` one alone is deleted a while after it came to rest.
    """

    chat_id: UUID
    message_id: int
    revision: int
    parameters: str
    transient: bool = False


class AskedMessage(NamedTuple):
    """A user's message in a chat's history."""

    message_id: int
    revision: int


class Responses(Protocol):
    """The chat is the truth: how a response ended, and what it says, is in its history, and is not written again."""

    async def add(self, response: StoredResponse) -> None:
        """Once: a repeat leaves the first one as it is. Nothing happens if the chat is gone."""
        ...

    async def get(self, chat_id: UUID, message_id: int, *, owner_id: UUID) -> StoredResponse | None:
        """None if there is none, or the chat belongs to another user."""
        ...

    async def replace(self, response: StoredResponse) -> None:
        """As ``add``, in the place of the one that there is."""
        ...

    async def remove(self, chat_id: UUID, message_id: int, *, owner_id: UUID) -> bool:
        """The chat and its history stay, but for one that was made for a transient response alone. False as for
        ``get``."""
        ...

    async def asked_after(self, chat_id: UUID, message_id: int) -> int | None:
        """The first user's message in the chat's history after this one, if any."""
        ...

    async def asked(self, chat_id: UUID, number: int | None = None, *, since: int = 0) -> AskedMessage | None:
        """The user's message of this number in the chat's history, from 0 at the message ``since`` on; the newest
        without one. None: none."""
        ...
