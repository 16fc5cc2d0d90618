"""One chat: with what belongs to it and is kept elsewhere, or by one of several names. A part of ``Store``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

import msgspec

from chatcluster.ports.ledger import Action
from chatcluster.usage import Bill

if TYPE_CHECKING:
    from chatcluster.ports.store import Chat


class ChatWorkspace(msgspec.Struct, frozen=True):
    """As much of a workspace as is shown with its chat."""

    id: UUID
    name: str
    state: str


class ChatDetails(NamedTuple):
    """``actions``: what the chat waits for, as ``Ledger.actions`` has it. ``usage``: what all its attempts cost.
    ``family_usage``: the same with all its agents'; None if it has none, or belongs to another chat itself.
    ``own_prompt``: None if it was never given one; empty if that was taken away again. Previous versions had it in the
    chat's first message. ``workspace``: the one in which the chat, or the chat that it belongs to, works."""

    chat: Chat
    actions: tuple[Action, ...] = ()
    usage: Bill = Bill()
    own_prompt: str | None = None
    family_usage: Bill | None = None
    workspace: ChatWorkspace | None = None


class Details(Protocol):
    async def details(self, chat_id: UUID) -> ChatDetails:
        """All of them in one look. Raises ``ChatNotFound``; the caller checks the owner.

        Of a chat whose row is damaged it is the row alone, as far as it can be read.
        """
        ...

    async def find(self, chat_ids: Sequence[UUID], *, owner_id: UUID) -> Chat | None:
        """The first of these chats that there is, and that is the owner's. None: none of them."""
        ...
