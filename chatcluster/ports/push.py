"""Web push: browsers that want to be told when an answer is there, and what they have yet to be told.

A **subscription** is a browser's, of one user; it lives as long as the token that it was made with. A **notice** is one
turn that is to be told to one subscription. Notices are written by the transaction that ends the turn of a root chat,
where its owner has a subscription, and only if the turn finished or failed: a person who stopped it knows.

Who is authoritative: the rows. A notice is claimed for a while by whichever replica comes first, sent, and then
deleted. One whose sender dies in between is claimed again: a browser may then get it twice, and shows it once, as both
have the same tag.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

SUBSCRIPTIONS_MAX = 20
"""The most subscriptions of one user; a further one takes the place of the oldest."""
NOTICE_SECONDS_MAX = 3600
"""What could not be told within that is told no more."""
TOLD_OUTCOMES = ("finished", "error")


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """``p256dh`` and ``auth`` are the browser's public key and secret, as RFC 8291 has them."""

    id: UUID
    user_id: UUID
    token_id: str
    endpoint: str
    p256dh: bytes
    auth: bytes
    created_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Subscription {self.id}>"


class PushNotice(msgspec.Struct, frozen=True, kw_only=True):
    """``attempts``: how often it was claimed, this time included."""

    id: int
    subscription: Subscription
    chat_id: UUID
    title: str
    outcome: str
    attempts: int


class Push(Protocol):
    async def subscribe(self, subscription: Subscription) -> Subscription:
        """Keep it, in the place of one with the same endpoint, which keeps its ID."""
        ...

    async def unsubscribe(self, user_id: UUID, subscription_id: UUID) -> bool:
        """Remove a subscription with what it was yet to be told. False if the user has no such subscription."""
        ...

    async def subscriptions(self, user_id: UUID) -> tuple[Subscription, ...]:
        """The oldest first."""
        ...

    async def claim(self, *, limit: int, seconds: float) -> tuple[PushNotice, ...]:
        """Notices that are due, the oldest first, for nobody else to claim for so many seconds. What has waited for too
        long is deleted at the same occasion. Waits for nobody's locks."""
        ...

    async def told(self, notice_id: int) -> None:
        """The notice was sent, or is given up."""
        ...

    async def postpone(self, notice_id: int, *, seconds: float) -> None:
        """The notice is due again in so many seconds."""
        ...

    async def forget(self, subscription_id: UUID) -> None:
        """The browser does not want it any more: the subscription goes, and all its notices."""
        ...


class Sent(StrEnum):
    """What became of a message."""

    TAKEN = "taken"
    GONE = "gone"
    REFUSED = "refused"
    LATER = "later"


class Answer(NamedTuple):
    sent: Sent
    reason: str = ""
    after_seconds: float | None = None
    """When to send it again, where the service says so."""


class PushSender(Protocol):
    async def send(self, subscription: Subscription, payload: bytes, *, topic: str) -> Answer:
        """Never raises for the network. ``topic``: a later message of the same one takes the place of an earlier one
        that the service still has."""
        ...
