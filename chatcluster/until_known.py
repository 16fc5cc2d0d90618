"""Transactions whose outcome has to be known: repeated while Postgres cannot be reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable

RETRY_SECONDS = 0.05
RETRY_CAP_SECONDS = 1.0

T = TypeVar("T")


async def until_known(chat_id: UUID, transact: Callable[[], Awaitable[T]]) -> T:
    """Repeat a transaction while Postgres cannot be reached; the lease bounds for how long."""
    delay_seconds = RETRY_SECONDS
    while True:
        try:
            return await transact()
        except StoreUnavailable as error:
            telemetry.event("runner.store_unavailable", chat_id=str(chat_id), error=str(error))
        await trio.sleep(delay_seconds)
        delay_seconds = min(2 * delay_seconds, RETRY_CAP_SECONDS)
