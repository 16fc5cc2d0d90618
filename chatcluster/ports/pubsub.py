"""Hints and live frames, and the channels that they travel on. Their names are those within one cluster."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol
from uuid import UUID

import msgspec

from chatcluster.chat import Standing, Status
from chatcluster.ports.store import Chat


class Gap(msgspec.Struct, frozen=True):
    """Something may have been missed here: the connection was lost, or the buffer overflowed."""


GAP = Gap()


class Hint(Standing, frozen=True):  # type: ignore[misc]  # see ``ChatState``
    """Published after each commit. It says that there is something to read, and is never data."""

    chat_id: UUID
    status: Status


def hint_of(chat: Chat) -> Hint:
    return Hint(
        worker_id=chat.worker_id,
        epoch=chat.epoch,
        snapshot_version=chat.snapshot_version,
        history_version=chat.history_version,
        queue_version=chat.queue_version,
        attempt=chat.attempt,
        chat_id=chat.id,
        status=chat.status,
    )


class Subscription(Protocol):
    @property
    def is_complete(self) -> bool:
        """Whether what is published from now on comes, for all that is known: the connection stands."""
        ...

    async def receive(self) -> bytes | Gap:
        """The next payload, or ``GAP`` in the place of what may have been missed."""
        ...

    async def receive_unless(self, taken: Callable[[bytes | Gap], bool]) -> bytes | Gap:
        """The next payload that ``taken`` leaves: it is called for each one, as it comes, and says whether it took it.

        The task that delivers the payload may call it, so it must neither block nor raise.
        """
        ...

    def hand_over(self, taken: Callable[[bytes | Gap], Literal[True]]) -> None:
        """Let ``taken`` have everything from now on, as it comes, for as long as the subscription lasts: nobody has to
        wait for it. As above it must neither block nor raise."""
        ...

    def receive_nowait(self) -> bytes | Gap:
        """Raises ``trio.WouldBlock`` when nothing is there."""
        ...


class PubSub(Protocol):
    """Send messages to the present listeners, without a guarantee."""

    def publish(self, channel: str, payload: bytes) -> None:
        """Never blocks and never fails. Subscribers in this process get it at once, the others
        through the server, if it can be reached."""
        ...

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Subscription]:
        """Listen within the block. On entry the server has confirmed the subscription; if it cannot be
        reached the block is entered all the same, and a ``GAP`` comes when it can."""
        ...


RUNNABLE_CHANNEL = "runnable"
"""A chat became claimable, and the replica that made it so has no place for it."""
REPLICAS_CHANNEL = "replicas"
"""A replica came or went: look at the ring again."""
TOKENS_CHANNEL = "tokens"
"""A token was revoked: forget what is cached."""

MODELS_CHANNEL = "models"
"""A provider or a model changed: read them again."""


def hint_channel(chat_id: UUID) -> str:
    return f"{{{chat_id}}}:hint"


def live_channel(chat_id: UUID) -> str:
    return f"{{{chat_id}}}:live"


def worker_channel(worker_id: UUID) -> str:
    """Hints of all chats that one worker owns."""
    return f"worker:{worker_id}"


def owner_channel(owner_id: UUID) -> str:
    """Lifecycle events of all chats of one user."""
    return f"owner:{owner_id}"
