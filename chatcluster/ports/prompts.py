"""What models are told before a conversation begins: of all chats, of a user's, of one."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.ports.accounts import Account

DEPLOYMENT = UUID(int=0)
"""The place of a user in rows that are of the deployment: what all its chats begin with."""


class ToldPrompts(msgspec.Struct, frozen=True):
    """The texts that go into one chat's prompt; an empty one is none. ``own`` is None where the chat was never given
    one but by its first message, as previous versions did it. ``kept``: the digest of what was told at the beginning of
    the newest turn of more than one step (see ``Ledger.keep_prefix``)."""

    system: str = ""
    own: str | None = None
    user: str = ""
    kept: str = ""


NOTHING_TOLD = ToldPrompts()


class Prompts(Protocol):
    """The texts, one by one. All that one chat's model is told comes with the claim of the chat."""

    async def get(self, owner_id: UUID) -> str:
        """The user's text, or that of the ``DEPLOYMENT``; empty if there is none."""
        ...

    async def put(self, owner_id: UUID, text: str, *, by: Account | None = None) -> None:
        """``by``: an administrator, which is logged; the text is not."""
        ...

    async def own(self, chat_id: UUID) -> str | None:
        """The chat's own; None if it was never given one here."""
        ...

    async def set_own(self, chat_id: UUID, text: str) -> None:
        """Set the chat's own prompt, from its next turn on. Raises ``ChatNotFound``."""
        ...
