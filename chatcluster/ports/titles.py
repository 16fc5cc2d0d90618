"""Chats that a model is to name."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.ports.store import Chat
from chatcluster.usage import Spent


class TitleTask(msgspec.Struct, frozen=True):
    """``text`` is what the chat's first message says, ``model`` that of the message or of the chat, ``number`` counts
    the tries from 1."""

    chat_id: UUID
    owner_id: UUID
    model: str | None
    text: str
    number: int


class Titles(Protocol):
    """A chat that was created without a title wants one, until a model or a person has given it one, or all tries
    failed."""

    async def take(self, limit: int, *, seconds: float) -> tuple[TitleTask, ...]:
        """Some that nobody has taken in the last ``seconds``, by turns between users, those that wait longest first. A
        try before whose end nobody has told is booked as lost."""
        ...

    async def entitle(self, task: TitleTask, title: str | None, spent: tuple[Spent, ...]) -> Chat | None:
        """Name the chat, None to leave it as it is called, and book what that cost, in one transaction.

        None if it wants no title any more: a person was first. Its history stays what it is.
        """
        ...

    async def book(self, task: TitleTask, spent: tuple[Spent, ...]) -> None:
        """A try that came to nothing, also where it cost nothing: the chat still wants a title."""
        ...
