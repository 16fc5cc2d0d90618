"""Which tools a server has, remembered: so a turn that calls nothing connects to nobody.

A list is remembered per server, revision of its row, and principal (the user, where each user signs in), for
``LIST_SECONDS``, or less if the server says so; it is forgotten when the server says that it changed, or does not know
a tool of it, and when somebody tests the server. Several turns that want a list at once wait for the same look. A look
goes on if the turn that began it ends, but for one that a turn makes in a session of its own: then the turns that
waited for it look anew.

What goes wrong is remembered as well, for ``FAILURE_SECONDS``: a server that is down costs a turn ten seconds now and
then, and not each turn. Each time that a server refuses us although it was given fresh tokens that is remembered for
twice as long, up to ``REFUSED_SECONDS_MAX``, until the user signs in anew on this replica or an administrator changes
its row, or tests the server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.backoff import grown_seconds
from chatcluster.errors import StoreUnavailable
from chatcluster.fair_places import FairPlaces
from chatcluster.ports import McpServer
from chatcluster.tools.mcp_credentials import Credentials, SignInNeeded
from chatcluster.tools.mcp_link import LinkSession, McpFailed, McpLink
from chatcluster.tools.mcp_wire import ListedTool, Trouble

LIST_SECONDS = 300.0
LIST_SECONDS_MIN = 20.0
"""However short a server says that its list is good for; with 0, which is what one says that says nothing, it is good
until it changes."""
FAILURE_SECONDS = 20.0
REFUSED_SECONDS_MAX = 120.0
"""A replica where the user does not sign in anew learns of it no sooner."""
SIGN_IN_SECONDS = 1.0
"""The user may be about to do so."""
OVERTAKEN_SECONDS = 1.0
"""What was forgotten while it was looked at is for those who wait for it: it may be old."""
LOOK_SECONDS = 10.0
"""The time for connecting and listing."""
LISTS_MAX = 200
LOOKS_MAX = 32
"""So many lists are looked at at a time."""
LOOKS_OF_SERVER_MAX = 8
"""Each user of a server that says nothing may wait for a list of it: those of others are not behind all of them."""


class Key(NamedTuple):
    server_id: UUID
    revision: int
    principal: UUID | None


class ToolList(NamedTuple):
    tools: tuple[ListedTool, ...]
    left_out: int
    instructions: str
    seconds: float | None = None
    """How long it is good for, where the server says that."""


class Remembered(NamedTuple):
    """``refused``: how often in a row the server has not let us in."""

    found: ToolList | McpFailed
    until: float
    refused: int = 0


Look = Callable[[], Awaitable[ToolList]]


class ToolLists:
    """``run`` has to run as long as lists are wanted."""

    def __init__(self, link: McpLink, credentials: Credentials) -> None:
        self._link = link
        self._credentials = credentials
        self._remembered: OrderedDict[Key, Remembered] = OrderedDict()
        self._looks: dict[Key, trio.Event] = {}
        self._overtaken: set[Key] = set()
        """Those of the looks that began before their server was forgotten."""
        self._places = FairPlaces(LOOKS_MAX, each=LOOKS_OF_SERVER_MAX)
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            await trio.sleep_forever()

    async def get(
        self, server: McpServer, user_id: UUID, session: Callable[[], Awaitable[LinkSession]] | None = None
    ) -> ToolList:
        """``session`` makes one that the turn needs in any case, so that none is made for the list alone.

        Raises ``McpFailed``.
        """
        key = key_of(server, user_id)
        if session is not None and (seen := self._known(key)) is not None and isinstance(seen.found, SignInNeeded):
            del self._remembered[key]  # a call that is taken up may have waited for a sign-in, which came after this
        while (known := self._known(key)) is None and (ended := self._looks.get(key)) is not None:
            await ended.wait()
        if known is None:
            look = partial(self.look if session is None else partial(self._look_in, session), server, user_id)
            await self._begin(key, server, look, is_from_afar=session is None)
            known = self._known(key)
        if known is None:
            raise McpFailed(Trouble.TIMEOUT, "it could not be looked at")
        if isinstance(known.found, McpFailed):
            raise McpFailed(known.found.trouble, known.found.message, known.found.challenge)
        return known.found

    def forget(self, server: McpServer, user_id: UUID) -> None:
        """The list is not true any more."""
        self._remembered.pop(key_of(server, user_id), None)

    def clear(self) -> None:
        self._remembered.clear()

    def forget_server(self, server_id: UUID) -> None:
        self._overtaken.update(key for key in self._looks if key.server_id == server_id)
        for key in [key for key in self._remembered if key.server_id == server_id]:
            del self._remembered[key]

    def forget_user(self, server_id: UUID, user_id: UUID) -> None:
        """A user signed in, or out."""
        for key in [key for key in self._remembered if key.server_id == server_id and key.principal == user_id]:
            del self._remembered[key]

    async def look(self, server: McpServer, user_id: UUID) -> ToolList:
        """Connect and list now. Raises ``McpFailed``."""
        await self._link.started()
        with trio.move_on_after(LOOK_SECONDS):
            try:
                return await self._look_once(server, user_id)
            except McpFailed as failure:  # some let everybody connect, and look at the token then
                if failure.trouble is not Trouble.UNAUTHORIZED or isinstance(failure, SignInNeeded):
                    raise
                if not await self._credentials.renew(server, user_id, 0, failure.challenge):
                    raise
            return await self._look_once(server, user_id)
        raise McpFailed(Trouble.TIMEOUT, f"no list of tools within {LOOK_SECONDS:g} s")

    async def _look_in(
        self, session: Callable[[], Awaitable[LinkSession]], server: McpServer, user_id: UUID
    ) -> ToolList:
        made = await session()
        with trio.move_on_after(LOOK_SECONDS):
            try:
                return await _list_of(made)
            except McpFailed as failure:
                if failure.trouble is not Trouble.UNAUTHORIZED:
                    raise
            return await self.look(server, user_id)  # with fresh tokens, if those are the reason
        raise McpFailed(Trouble.TIMEOUT, f"no list of tools within {LOOK_SECONDS:g} s")

    async def _look_once(self, server: McpServer, user_id: UUID) -> ToolList:
        session = await self._credentials.session(server, user_id)
        try:
            return await _list_of(session)
        finally:
            session.close()

    def _known(self, key: Key) -> Remembered | None:
        known = self._remembered.get(key)
        return known if known is not None and known.until > trio.current_time() else None

    async def _begin(self, key: Key, server: McpServer, look: Look, *, is_from_afar: bool) -> None:
        """Look, and return when it is remembered what came of it."""
        ended = self._looks[key] = trio.Event()
        if not is_from_afar:
            await self._look_and_remember(key, server, look)
        elif self._nursery is not None:
            self._nursery.start_soon(self._look_and_remember, key, server, look)
            await ended.wait()
        else:
            del self._looks[key]

    async def _look_and_remember(self, key: Key, server: McpServer, look: Look) -> None:
        try:
            found = await self._found(server, look)
            self._remember(key, found)
        finally:
            self._overtaken.discard(key)
            self._looks.pop(key).set()

    async def _found(self, server: McpServer, look: Look) -> ToolList | McpFailed:
        try:
            async with self._places.taken(server.id):
                return await look()
        except McpFailed as failure:
            telemetry.event("mcp.list_failed", server=server.slug, trouble=failure.trouble, error=failure.message)
            return failure
        except StoreUnavailable as error:
            return McpFailed(Trouble.UNREACHABLE, error.message)
        except Exception as error:  # noqa: BLE001 - one server is not worth all others
            telemetry.event("mcp.list_crashed", server=server.slug, error=repr(error), exc_info=error)
            return McpFailed(Trouble.GARBAGE, "something went wrong here; the log says what")

    def _remember(self, key: Key, found: ToolList | McpFailed) -> None:
        before = self._remembered.get(key)
        refused = 1 + (0 if before is None else before.refused) if _is_refusal(found) else 0
        seconds = _seconds_of(found, refused)
        if key in self._overtaken:
            seconds = min(seconds, OVERTAKEN_SECONDS)
        self._remembered[key] = Remembered(found, trio.current_time() + seconds, refused)
        self._remembered.move_to_end(key)
        while len(self._remembered) > LISTS_MAX:
            self._remembered.popitem(last=False)


async def _list_of(session: LinkSession) -> ToolList:
    listed = await session.list_tools()
    return ToolList(listed.tools, listed.left_out, session.opened.instructions, listed.seconds)


def _is_refusal(found: ToolList | McpFailed) -> bool:
    is_refusal = isinstance(found, McpFailed) and found.trouble is Trouble.UNAUTHORIZED
    return is_refusal and not isinstance(found, SignInNeeded)


def _seconds_of(found: ToolList | McpFailed, refused: int) -> float:
    if isinstance(found, SignInNeeded):
        return SIGN_IN_SECONDS
    if refused:
        return grown_seconds(FAILURE_SECONDS, refused - 1, REFUSED_SECONDS_MAX)
    if isinstance(found, McpFailed):
        return FAILURE_SECONDS
    return min(max(found.seconds, LIST_SECONDS_MIN), LIST_SECONDS) if found.seconds else LIST_SECONDS


def key_of(server: McpServer, user_id: UUID) -> Key:
    return Key(server.id, server.revision, user_id if server.per_user else None)
