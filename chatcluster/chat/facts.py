"""What a decision has to know besides the chat's state and the command: a store looks it up, under the chat's lock.

A command says what its caller asked for, and nothing else: no store has to fill it in.
"""

from __future__ import annotations

import msgspec

from chatcluster.parts import Role


class Replaced(msgspec.Struct, frozen=True):
    """The message that an edit replaces."""

    role: Role
    model: str | None = None
    revision: int = 0


class Facts(msgspec.Struct, frozen=True):
    """``replaced`` is None if the chat has no message of the ID that the command names."""

    replaced: Replaced | None = None
    parent_archived: bool = False
    """Whether the chat that this one belongs to, if any, is archived."""
    known_calls: frozenset[str] = frozenset()
    """The calls that an answer names, as far as the chat ever had them."""
    is_asker_gone: bool = False
    """The call that sends a message is answered, or its chat is being stopped. What agents were told of that, this
    message was not."""


NO_FACTS = Facts()
"""What commands get that need no facts."""
