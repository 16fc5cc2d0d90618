"""Repeats a transaction while Postgres cannot be reached: a repeat of an owner's commit is recognised by the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.errors import StoreFailed, StoreUnavailable

STORE_RETRY_SECONDS = 0.05
STORE_RETRY_CAP_SECONDS = 1.0

T = TypeVar("T")


async def until_known(transact: Callable[[], Awaitable[T]], chat_id: UUID) -> T:
    """The outcome, or ``StoreFailed`` where a repeat changes nothing.

    The lease bounds for how long it is tried: with it ends the task that waits here.
    """
    backoff = Backoff(STORE_RETRY_SECONDS, STORE_RETRY_CAP_SECONDS)
    while True:
        try:
            return await transact()
        except StoreFailed:
            raise  # it would fail again
        except StoreUnavailable as error:
            telemetry.event("runner.store_unavailable", chat_id=str(chat_id), error=str(error))
        await trio.sleep(backoff.next_seconds())
