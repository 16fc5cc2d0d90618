"""Chats that exist to be harmed: their own user's, read by nobody, and judged by one thing, that they come to rest.

A fault that aims at one chat aims at one of these. So what it does to that chat is not mixed up with what it must not
do to the others: the checker knows nothing of it, and exempts nobody else.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import trio
from checker import Kind, Violation

from chaos.api import Api
from chaos.database import DatabaseError, query
from chaos.servers import Servers
from chaos.users import sign_up

REST_SECONDS_MAX = 60.0
"""From the end of the run on: for attempts that fail one after the other, and the pauses between them."""
BEGIN_SECONDS_MAX = 10.0
POLL_SECONDS = 0.1
STATE = "select status, worker_id, archived from chats where id = $1::text::uuid"
OWNER = "select worker_id::text from chats where id = $1::text::uuid"
AT_REST = ("waiting", "error")


class VictimChats:
    """``count`` is how many there were."""

    def __init__(self, api: Api, servers: Servers, draw: random.Random, report: Callable[[Violation], None]) -> None:
        self.count = 0
        self.token = ""
        self._admin = api
        self._api: Api | None = None
        self._servers = servers
        self._draw = draw
        self._report = report
        self._unsettled: list[tuple[str, str]] = []

    async def aclose(self) -> None:
        if self._api is not None:
            await self._api.aclose()

    async def begin(self, fault: str, *, tokens: int, tokens_per_second: float) -> str:
        """A new chat with an answer under way. Raises ``RuntimeError`` if it is refused."""
        api = await self._access()
        self.count += 1
        answer = await api.write("POST", "/chats", {"content": self.question(tokens, tokens_per_second)})
        if answer.status != 201:
            raise RuntimeError(f"no chat could be created for {fault}: {answer.status} {answer.body}")
        chat: str = answer.body["id"]
        self._unsettled.append((chat, fault))
        return chat

    def question(self, tokens: int, tokens_per_second: float) -> str:
        return f"Victim {self.count} [[word=v{self.count}x tokens={tokens} tps={tokens_per_second:g}]]"

    async def say(self, chat: str, content: str) -> int | None:
        """Send a message, once; the status of the answer, whatever it is, None if there was none."""
        return (await (await self._access()).write("POST", f"/chats/{chat}/messages", {"content": content})).status

    async def rest(self, chat: str) -> bool:
        """Wait until its answer is there; whether it came in time."""
        with trio.move_on_after(BEGIN_SECONDS_MAX):
            while not await self._rests(chat):  # noqa: ASYNC110
                await trio.sleep(POLL_SECONDS)
            return True
        return False

    async def owner(self, chat: str) -> str | None:
        """Its worker, once it has one; None if it gets none in time."""
        with trio.move_on_after(BEGIN_SECONDS_MAX):
            while True:
                rows = await query(self._servers.database_url, OWNER, chat)
                if rows and rows[0][0] is not None:
                    return str(rows[0][0])
                await trio.sleep(POLL_SECONDS)
        return None

    async def settle(self) -> None:
        """At the end of the run: each must be at rest, if only in an error, or it is stuck."""
        with trio.move_on_after(REST_SECONDS_MAX):
            for chat, fault in list(self._unsettled):
                while not await self._rests(chat):  # noqa: ASYNC110
                    await trio.sleep(POLL_SECONDS)
                self._unsettled.remove((chat, fault))
        for chat, fault in self._unsettled:
            self._report(Violation(Kind.STUCK, chat, f"the victim of {fault} does not come to rest"))

    async def _rests(self, chat: str) -> bool:
        try:
            rows = await query(self._servers.database_url, STATE, chat)
        except DatabaseError:  # it is away just now: the next look tells
            return False
        if not rows:  # a failover has lost it
            return True
        status, worker_id, archived = rows[0]
        return archived or (status in AT_REST and worker_id is None)

    async def _access(self) -> Api:
        if self._api is None:
            self._api, self.token = await sign_up(self._admin, "victim", self._draw)
        return self._api
