"""What a chat's transition means for its agents: chats that belong to it.

A transition changes one chat, under the lock of its row. What its agents are to do because of it is an **order** for
each of them, written in the same transaction, and carried out in a transaction of the agent's own, which may give
orders to agents of its own in turn. An order that its giver did not live to see carried out is swept like a deadline.
So a family is never half stopped, and no transaction holds two chats. Pure.
"""

from __future__ import annotations

from enum import StrEnum


class Order(StrEnum):
    """``LOOK`` is for the chat at the root: an agent of it waits for a person, or does so no longer."""

    CLOSE = "close"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    LOOK = "look"


_ORDERS = {
    "Interrupt": Order.CLOSE,
    "Edit": Order.CLOSE,
    "Close": Order.CLOSE,
    "Archive": Order.ARCHIVE,
    "Unarchive": Order.UNARCHIVE,
}


def order_after(event: str) -> Order | None:
    """What the agents of a chat are to do after an event of this name; None: nothing."""
    return _ORDERS.get(event)
