"""What nobody can read any more is deleted for good: a while after it was deleted, revoked, used up or had expired.

=====================================  ==============================================
messages that an edit took away        ``deleted_keep_days`` after that (0: never)
tokens, revoked or expired             the same; their IDs are random and do not come again
word of chats that were deleted        the same
turns that ended                       the same: a reader that was away for longer is not told of them
files that no chat has                 a day after they were uploaded; uploads that broke off, after an hour
the log of takeovers                   after 7 days
what charts show                       after 7 days
the log of what administrators did     after 90 days
subscriptions of browsers              as soon as the token that they were made with has ended
sessions and codes                     as soon as they have ended
idempotency keys                       after 24 hours, when a repeat is a new request
chats of transient responses           ten minutes after they came to rest
=====================================  ==============================================

One replica does it, the one that started first of those alive; when it is gone, the next one does. It goes round: all
chats by their IDs, a page at a time, then a pause. Each statement is a transaction of its own. It deletes
``BATCH_ROWS`` at most, leaves alone what somebody has locked, and is followed by a pause, so that vacuum keeps up and
nobody waits. Nothing depends on it: what fails is told (``purge.failed``) and tried in the next round; a row that can
be neither read nor deleted, and a kind that takes longer than a statement may, keep their own kind, and no other.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable
from chatcluster.ports.files import UNFINISHED_SECONDS, UNREFERENCED_SECONDS
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.queries import load_queries

PAGE_CHATS = 1000
BATCH_ROWS = 500
BATCH_FILES = 20
"""Each has some dozens of chunks."""
PAUSE_SECONDS = 0.2
ROUND_SECONDS_MAX = 600.0
ROUND_SECONDS_MIN = 5.0
DAY_SECONDS = 86_400.0
BEFORE_ALL = UUID(int=0)

SQL = load_queries("purge.sql")


class Purge:
    """``worker_id`` says who this replica is at the moment."""

    def __init__(self, database: Database, settings: Settings, worker_id: Callable[[], UUID]) -> None:
        self._database = database
        self._worker_id = worker_id
        self._idle_hours = settings.browsers.session_idle_hours
        self._keep_seconds = settings.storage.deleted_keep_days * DAY_SECONDS

    async def run(self) -> None:
        """Go round until cancelled."""
        pause_seconds = min(ROUND_SECONDS_MAX, max(ROUND_SECONDS_MIN, self._keep_seconds / 10))
        while True:
            await trio.sleep(pause_seconds * random.uniform(0.5, 1.0))
            try:
                if await self._database.autocommit(_is_eldest, self._worker_id()):
                    await self.go_round()
            except StoreUnavailable as error:
                telemetry.event("purge.failed", error=str(error))
            except Exception as error:  # noqa: BLE001 - no row that is deleted, or cannot be, is worth a replica
                telemetry.event("purge.crashed", error=repr(error), exc_info=error)

    async def go_round(self) -> None:
        """Delete all that is due, as far as that can be done. Raises ``StoreUnavailable``."""
        await self._delete("keys", "delete_keys")
        await self._delete("sessions", "delete_sessions", self._idle_hours)
        await self._delete("codes", "delete_codes")
        await self._delete("files", "delete_files", UNFINISHED_SECONDS, UNREFERENCED_SECONDS, rows_max=BATCH_FILES)
        await self._delete("takeovers", "delete_takeovers")
        await self._delete("audit", "delete_audit")
        await self._delete("chats", "delete_transient")
        await self._delete("minutes", "delete_minutes")
        await self._delete("subscriptions", "delete_subscriptions")
        if self._keep_seconds:
            await self._delete("tokens", "delete_tokens", self._keep_seconds)
            await self._delete("turns", "delete_turns", self._keep_seconds)
            await self._delete("tombstones", "delete_tombstones", self._keep_seconds)
            async for chat_ids in self._edited_chats():
                await self._delete("messages", "delete_messages", chat_ids, self._keep_seconds)

    async def _edited_chats(self) -> AsyncIterator[list[UUID]]:
        last_id: UUID | None = BEFORE_ALL
        while last_id is not None:
            last_id, chat_ids = await self._database.autocommit(_select_page, last_id)
            if chat_ids:
                yield chat_ids
            await trio.sleep(PAUSE_SECONDS)

    async def _delete(self, kind: str, query: str, *args: object, rows_max: int = BATCH_ROWS) -> None:
        """Delete in batches until one is not full."""
        rows = rows_max
        while rows == rows_max:
            try:
                rows = await self._database.autocommit(_delete_batch, query, (*args, rows_max))
            except StoreUnavailable as error:
                telemetry.event("purge.failed", kind=kind, error=str(error))
                return
            if rows:
                telemetry.event("purge.deleted", kind=kind, rows=rows)
                await trio.sleep(PAUSE_SECONDS)


async def _is_eldest(connection: Connection, worker_id: UUID) -> bool:
    return bool(await connection.fetchval(SQL["is_eldest"], worker_id))


async def _select_page(connection: Connection, last_id: UUID) -> tuple[UUID | None, list[UUID]]:
    row = await connection.fetchrow(SQL["select_page"], last_id, PAGE_CHATS)
    assert row is not None, "an aggregate has one row"
    return row["last_id"], row["edited_ids"]


async def _delete_batch(connection: Connection, query: str, args: tuple[object, ...]) -> int:
    """How many rows it deleted."""
    done = await connection.execute(SQL[query], *args)
    return int(done.rpartition(" ")[2])
