"""Chats whose calls wait until their user has signed in at a server of tools, and then go on.

Who is authoritative: the ledger says which calls wait, the grants say where a user is let in. A call's server is the
one that its name begins with. When a user comes back from a sign-in, the replica that takes the callback lets the
user's calls in; so that none is forgotten if it dies there, every replica looks for them now and then. A server that
nobody signs in at any more, as it was removed or disabled, say, keeps no call waiting: its owner finds what is left.

What happens on failure: a call that was answered meanwhile, or whose chat moved on, is left alone. One chat that cannot
be read, or that somebody holds, keeps no other waiting. While Postgres cannot be reached nothing is let in; the next
look finds it. A call whose server refuses the new login as well waits
again, because that login is marked as refused.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NoReturn
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.chat import SignedIn
from chatcluster.errors import CallerError, StoreUnavailable, Unreadable
from chatcluster.ports import McpServer, McpServers, SignInWait, Store
from chatcluster.transitions import Transitions

LOOK_SECONDS = 30.0
LET_IN_SECONDS_MAX = 5.0
"""A user who comes back from a sign-in waits no longer than that for the calls: each of them may wait for Postgres."""
WAITS_MAX = 100
"""So many waiting calls are looked at in one look, in no order."""


class SignIns:
    def __init__(self, store: Store, servers: McpServers, transitions: Transitions) -> None:
        self._store = store
        self._servers = servers
        self._transitions = transitions

    async def run(self) -> NoReturn:
        """Look until cancelled."""
        while True:
            await trio.sleep(LOOK_SECONDS * random.uniform(0.75, 1.25))
            await self._look()

    async def let_in(self, user_id: UUID) -> None:
        """This user has signed in somewhere, which stands whatever fails here, or takes too long: the next look makes
        up for it."""
        with trio.move_on_after(LET_IN_SECONDS_MAX):
            await self._look(user_id)

    async def _look(self, user_id: UUID | None = None) -> None:
        try:
            await self._let_in(await self._store.sign_in_waits(WAITS_MAX, owner_id=user_id))
        except StoreUnavailable as error:
            telemetry.event("sign_ins.failed", error=str(error))

    async def _let_in(self, waits: Sequence[SignInWait]) -> None:
        if not waits:
            return
        servers = [server for server in await self._servers.servers() if server.per_user and server.settings.enabled]
        for owner_id, of_owner in groupby(sorted(waits, key=_chat_of), key=lambda wait: wait.owner_id):
            for chat_id, of_chat in groupby(
                await self._ready(owner_id, of_owner, servers), key=lambda wait: wait.chat_id
            ):
                await self._go_on(owner_id, chat_id, tuple(wait.call_id for wait in of_chat))

    async def _ready(
        self, owner_id: UUID, waits: Iterable[SignInWait], servers: Sequence[McpServer]
    ) -> Sequence[SignInWait]:
        """The waits of this user that no server keeps out; none where that cannot be read."""
        try:
            grants = await self._servers.grants(owner_id)
        except StoreUnavailable as error:
            telemetry.event("sign_ins.failed", error=str(error))
            return ()
        good = {grant.server_id for grant in grants if not grant.refused}
        closed = {server.slug for server in servers if server.id not in good}
        return [wait for wait in waits if server_of(wait.tool) not in closed]

    async def _go_on(self, owner_id: UUID, chat_id: UUID, call_ids: tuple[str, ...]) -> None:
        try:
            await self._transitions.apply(chat_id, SignedIn(call_ids), owner_id=owner_id)
        except CallerError as error:  # somebody was quicker: the user stopped it, or its time was over
            telemetry.event("sign_ins.late", chat_id=str(chat_id), error=str(error))
        except (StoreUnavailable, Unreadable) as error:  # as where somebody holds its row: the others go on
            telemetry.event("chat.passed_over", chat_id=str(chat_id), error=repr(error))


def server_of(tool: str) -> str:
    """The slug of the server whose tool it is."""
    return tool.partition("__")[0]


def _chat_of(wait: SignInWait) -> tuple[UUID, UUID]:
    return wait.owner_id, wait.chat_id
