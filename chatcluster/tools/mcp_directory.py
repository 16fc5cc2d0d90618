"""The servers of tools as this replica knows them: a copy of the rows, so that a turn asks the database nothing.

A hint says that something changed; a poll of ``POLL_SECONDS`` stands behind lost hints. A row that cannot be read, or a
database that is away, leaves the copy as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports import MCP_SERVERS_CHANNEL, Availability, McpServer, McpServers, PubSub

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

    async def run(self) -> None:
        """Follow the rows until cancelled."""
        async with self._pubsub.subscribe(MCP_SERVERS_CHANNEL) as hints:
            while True:
                await self._read()
                with trio.move_on_after(POLL_SECONDS):
                    await hints.receive()

    async def _read(self) -> None:
        try:
            by_slug = {server.slug: server for server in await self._servers.servers()}
        except StoreUnavailable as error:
            telemetry.event("mcp.directory_failed", error=str(error))
            return
        is_other, self._by_slug = by_slug != self._by_slug, by_slug
        self._is_read.set()
        if is_other:
            self._changed()

    @property
    def has_any(self) -> bool:
        """Whether there is a server that may be called."""
        return any(server.settings.enabled for server in self._by_slug.values())

    async def of_chat(self, slugs: Iterable[str]) -> tuple[list[McpServer], list[str]]:
        """The servers of a chat that names these slugs, by slug, and those of its slugs that stand for none."""
        with trio.move_on_after(FIRST_READ_SECONDS):
            await self._is_read.wait()
        named, known = set(slugs), self._by_slug.values()
        found = [
            server
            for server in sorted(known, key=lambda server: server.slug)
            if server.settings.enabled and (server.slug in named or server.settings.availability is Availability.ALWAYS)
        ]
        return found, sorted(named - {server.slug for server in found})

    def current(self, server_id: UUID) -> McpServer | None:
        """The server as it is now; None if it was removed or disabled."""
        with suppress(StopIteration):
            return next(s for s in self._by_slug.values() if s.id == server_id and s.settings.enabled)
        return None
