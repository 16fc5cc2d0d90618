"""Families: chats that belong to other chats, and what passes between them. A part of ``Store``.

An **agent** is a chat that a call of another one made: its ``parent_id`` names that one, its ``root_id`` the chat at
the top, which has none. In all else it is a chat like any other: any replica claims it, and its user reads it.

Each method that changes something is one transaction on one chat. What one chat's transition means for others is in the
database before it is done: a call that waits names its agent, an order (``chat/family.py``) names the agent that is to
obey. So a replica that dies leaves nothing behind that a sweep does not find.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol
from uuid import UUID

if TYPE_CHECKING:
    from chatcluster.ports.store import Chat, NewChat, Outcome


class Undone(NamedTuple):
    reports: tuple[UUID, ...]
    """Chats that ``report_agents`` has something for."""
    orders: tuple[UUID, ...]
    """Chats that have an order."""
    is_overdue: bool
    """There is something for ``expire_actions``."""


class Families(Protocol):
    async def spawn(self, agent: NewChat, call_id: str, *, agents_max: int) -> Outcome:
        """Insert an agent: a chat that belongs to its parent, for the parent's call that asks for it.

        May be repeated: the agent of this ID is found, and the outcome ``replayed``. Raises ``Moved`` if the call is
        not open (any more), or the chat is being stopped, as its orders are given then; ``Conflict`` if the family has
        so many, ``ChatNotFound`` if there is no such parent.
        """
        ...

    async def family(self, root_id: UUID) -> tuple[Chat, ...]:
        """All agents below this root, the oldest first."""
        ...

    async def report_agents(self, chat_id: UUID, *, patiently: bool = True) -> Outcome | None:
        """Answer those calls of the chat that wait for agents which rest, or do not exist, or that waited for long
        enough. None if there is none, or if the chat does not wait. A few at a time: ask again until there is none.

        Not ``patiently``: nothing if somebody holds the row.
        """
        ...

    async def undone(self, limit: int) -> Undone:
        """What those left undone who were to do it, at most ``limit`` of each kind, and whether waits for somebody are
        over: all that a sweep looks for, in one look. A kind that cannot be looked for is left out, and told."""
        ...

    async def due_orders(self, limit: int, *, root_id: UUID | None = None) -> tuple[UUID, ...]:
        """Chats that have an order; of one family, or of all."""
        ...

    async def obey(self, chat_id: UUID) -> Outcome | None:
        """Carry out the order that this chat has, and give those to its own agents that follow.

        None if there is none, or somebody holds the row, or it has to wait: a chat that is being archived is taken out
        of the archive when it is there.
        """
        ...
