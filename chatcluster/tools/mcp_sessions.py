"""The sessions of one turn with its servers of tools: which of them a call goes through.

All calls at one server go through one session, and have what the server keeps for it. But where a server asks the user
without saying for which call (``mcp_questions.py``), a session has one call at a time, so that it is clear: a call that
comes while there is one gets a further session, and the next one that comes alone has the first again. So calls that
follow each other are always made in one session.

Who is authoritative: the MCP process says of a session that it is such a one, as it is opened, or once its server has
asked that way. A replica keeps that in mind for later turns, until the server's row changes.

What happens on failure:

* **The server gives no further session**: its calls run one after the other, for the rest of the turn. Those that wait
  say so, as progress.
* **A call is given up, and its server may still be at it**: where one call at a time is the rule, that was the last one
  of its session.
* **A session is over**: the next call makes another one.

There are never more sessions with a server than calls that run at a time (``tools-concurrent``), and all are closed at
the turn's end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports import McpServer
from chatcluster.tools.mcp_link import LinkSession, McpFailed

TELL_SECONDS = 5.0
"""How often a call says that it waits."""


class ServerSessions:
    """The sessions with one server. ``open_one`` makes one, and raises ``McpFailed`` and ``StoreUnavailable``."""

    def __init__(
        self, server: McpServer, open_one: Callable[[], Awaitable[LinkSession]], known: dict[UUID, int]
    ) -> None:
        """``known``: the servers of which a session is to have one call at a time, and at which revision of its row
        that was seen. It is added to."""
        self._server = server
        self._open_one = open_one
        self._known = known
        self._sessions: list[LinkSession] = []
        self._calls: Counter[LinkSession] = Counter()
        self._opening = trio.Lock()
        self._freed = trio.Event()
        self._has_refused = False
        """The server has given no further session."""

    async def first(self) -> LinkSession:
        """The one that all share if they can. Raises what ``open_one`` raises."""
        async with self._opening:
            self._forget_spent()
            if not self._sessions:
                self._sessions.append(await self._open_one())
                self._note(self._sessions[0])
            return self._sessions[0]

    @asynccontextmanager
    async def lent(self, waits: Callable[[], None]) -> AsyncIterator[LinkSession]:
        """A session for one call, within the block. ``waits`` is called now and then while there is none for it.

        Raises what ``open_one`` raises.
        """
        session = await self._take(waits)
        try:
            yield session
        finally:
            self._calls -= Counter([session])
            self._note(session)
            self._tell_freed()

    async def _take(self, waits: Callable[[], None]) -> LinkSession:
        while True:
            freed = self._freed
            first = await self.first()
            session = (self._idle() or await self._another()) if self._has_one_at_a_time else first
            if session is not None:
                self._calls[session] += 1
                return session
            waits()
            with trio.move_on_after(TELL_SECONDS):
                await freed.wait()

    @property
    def _has_one_at_a_time(self) -> bool:
        return self._known.get(self._server.id) == self._server.revision

    def _note(self, session: LinkSession) -> None:
        if session.one_at_a_time:
            self._known[self._server.id] = self._server.revision

    def _idle(self) -> LinkSession | None:
        return next((session for session in self._sessions if not self._calls[session]), None)

    async def _another(self) -> LinkSession | None:
        if self._has_refused:
            return None
        try:
            session = await self._open_one()
        except (McpFailed, StoreUnavailable) as error:
            self._has_refused = True
            telemetry.event("mcp.session_refused", server=self._server.slug, error=str(error))
            return None
        self._sessions.append(session)
        return session

    def _forget_spent(self) -> None:
        for session in self._sessions:
            self._note(session)
            if session.is_over or (session.has_left and self._has_one_at_a_time):
                session.retire()
        self._sessions = [session for session in self._sessions if not session.is_retired]

    def _tell_freed(self) -> None:
        self._freed.set()
        self._freed = trio.Event()

    def drop(self) -> None:
        """Use these sessions no more. What runs in them is not cut off."""
        for session in self._sessions:
            session.retire()
        self._sessions.clear()
        self._tell_freed()

    def close(self) -> None:
        """The turn is over."""
        for session in self._sessions:
            session.close()
        self._sessions.clear()
