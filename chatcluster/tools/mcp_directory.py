"""The servers of tools as this replica knows them: a copy of the rows, so that a turn asks the database nothing.

A hint says that something changed; a poll of ``POLL_SECONDS`` stands behind lost hints. A chat that names a server
which is not known was perhaps quicker than the hint: then the rows are read again, once for all that wait. A database
that is away leaves the copy as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports import MCP_SERVERS_CHANNEL, Availability, McpServer, McpServers, PubSub
from chatcluster.pubsub import read_again

POLL_SECONDS = 4.0
FIRST_READ_SECONDS = 10.0


class McpDirectory:
    """``changed`` is called after a read that found something else."""

    def __init__(self, servers: McpServers, pubsub: PubSub, changed: Callable[[], None] = lambda: None) -> None:
        self._servers = servers
        self._pubsub = pubsub
        self._changed = changed
        self._by_slug: dict[str, McpServer] = {}
        self._is_read = trio.Event()
        self._read_at = -math.inf
        self._turn = trio.Lock()

    async def run(self) -> None:
        """Follow the rows until cancelled."""
        await read_again(self._pubsub, MCP_SERVERS_CHANNEL, POLL_SECONDS, self._read)

    async def _read(self) -> None:
        started_at = trio.current_time()
        try:
            by_slug = {server.slug: server for server in await self._servers.servers()}
        except StoreUnavailable as error:
            telemetry.event("mcp.directory_failed", error=str(error))
            return
        self._read_at = started_at
        is_other, self._by_slug = by_slug != self._by_slug, by_slug
        self._is_read.set()
        if is_other:
            self._changed()

    async def read(self) -> None:
        """Return when the rows were read for the first time."""
        await self._is_read.wait()

    @property
    def has_any(self) -> bool:
        """Whether there is a server that may be called."""
        return any(server.settings.enabled for server in self._by_slug.values())

    def may_have(self, slugs: Collection[str]) -> bool:
        """Whether a chat that names these slugs may have servers, which ``of_chat`` tells."""
        return bool(slugs) or not self._is_read.is_set() or bool(self._found(()))

    async def of_chat(self, slugs: Iterable[str]) -> tuple[list[McpServer], list[str]]:
        """The servers of a chat that names these slugs, by slug, and those of its slugs that stand for none."""
        with trio.move_on_after(FIRST_READ_SECONDS):
            await self.read()
        named = set(slugs)
        found = self._found(named)
        if named - {server.slug for server in found} and await self._read_again():
            found = self._found(named)
        return found, sorted(named - {server.slug for server in found})

    async def _read_again(self) -> bool:
        """Whether there was a look that began after this call; those that wait at the same time share one."""
        asked_at = trio.current_time()
        async with self._turn:
            if self._read_at < asked_at:
                await self._read()
            return self._read_at >= asked_at

    def _found(self, named: Collection[str]) -> list[McpServer]:
        return [
            server
            for server in sorted(self._by_slug.values(), key=lambda server: server.slug)
            if server.settings.enabled and (server.slug in named or server.settings.availability is Availability.ALWAYS)
        ]

    def revision_of(self, server_id: UUID) -> int:
        """0 for one that is not known."""
        return next((server.revision for server in self._by_slug.values() if server.id == server_id), 0)

    def current(self, server_id: UUID) -> McpServer | None:
        """The server as it is now; None if it was removed or disabled."""
        return next((s for s in self._by_slug.values() if s.id == server_id and s.settings.enabled), None)
