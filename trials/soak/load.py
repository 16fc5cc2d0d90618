"""The load: so many operations in so many seconds, as evenly as the cluster takes them.

The senders share one schedule: operation *n* is due at ``n / rate``, and whoever is free does it. A sender that finds
it overdue does it at once, so that a pause is made good. Each sender is one user on one connection, and goes round its
own chats: by the time that a chat's turn comes again it is at rest.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import trio
from chaos.stream import BrokenOff, open_stream
from event_wire import AnswerParser, request

SENDERS = 64
ANSWER_SECONDS_MAX = 30.0
RECEIVE_BYTES = 64 << 10
RETRY_SECONDS = 0.2
STREAM_SECONDS = 1.0
SHORT = "[[tokens=8 tps=0]]"
LONG = "[[tokens=100 tps=50]]"
TEXT = "What is said in a message of usual length, with some words more than would be needed. " * 3
MIX = {"send": 70, "keyed": 14, "edit": 5, "interrupt": 2, "archive": 2, "token": 2, "page": 3, "stream": 2}
"""What is done with a chat, and how often. ``keyed`` is a send with an Idempotency-Key, which is sent twice."""


class Schedule:
    """``operations`` in ``seconds``, of which ``chats`` create one."""

    def __init__(self, *, operations: int, chats: int, seconds: float) -> None:
        self.began = trio.current_time()
        self.end = self.began + seconds
        self._rate = operations / seconds
        self._operations = operations
        self._every = max(1, operations // chats)
        self._next = 0

    async def take(self) -> bool | None:
        """Wait for the next operation: whether it creates a chat, or None at the end."""
        number = self._next
        if number >= self._operations or trio.current_time() >= self.end:
            return None
        self._next += 1
        await trio.sleep_until(self.began + number / self._rate)
        return number % self._every == 0


class Sender:
    """One user. ``counts`` is shared: what was done, and what was answered instead of it."""

    def __init__(self, url: str, token: str, admin_token: str, counts: Counter[str], draw: random.Random) -> None:
        self._address = urlsplit(url)
        self._url = url
        self._token = token
        self._admin_token = admin_token
        self._counts = counts
        self._draw = draw
        self._chats: deque[str] = deque()
        self._connection: trio.SocketStream | None = None
        self._operations: dict[str, Callable[[str], Awaitable[object]]] = {
            "send": self._send,
            "keyed": self._keyed,
            "edit": self._edit,
            "interrupt": self._interrupt,
            "archive": self._archive,
            "token": self._make_token,
            "page": self._page,
            "stream": self._follow,
        }

    async def run(self, schedule: Schedule) -> None:
        try:
            while (creates := await schedule.take()) is not None:
                if creates or not self._chats:
                    await self._create()
                else:
                    await self._operate()
        finally:
            await self._close()

    async def _operate(self) -> None:
        kind = self._draw.choices(list(MIX), list(MIX.values()))[0]
        self._chats.rotate(-1)
        await self._operations[kind](self._chats[0])
        self._counts[kind] += 1

    async def _create(self) -> None:
        created = await self._ask("POST", "/chats", {"content": TEXT + SHORT})
        if created:
            self._chats.append(created["id"])
            self._counts["create"] += 1

    async def _send(self, chat: str, content: str = TEXT + SHORT, key: str = "") -> dict[str, Any]:
        return await self._ask("POST", f"/chats/{chat}/messages", {"content": content}, key=key)

    async def _keyed(self, chat: str) -> None:
        key = f"soak-{self._draw.getrandbits(64):x}"
        for _ in range(2):
            await self._send(chat, key=key)

    async def _edit(self, chat: str) -> None:
        sent = await self._send(chat)
        if message := sent.get("message"):
            await self._ask("PATCH", f"/chats/{chat}/messages/{message['id']}", {"content": TEXT + SHORT})

    async def _interrupt(self, chat: str) -> None:
        await self._send(chat, TEXT + LONG)
        await self._ask("POST", f"/chats/{chat}/interrupt", {})

    async def _archive(self, chat: str) -> None:
        for archived in (True, False):
            await self._ask("PATCH", f"/chats/{chat}", {"archived": archived})

    async def _make_token(self, _: str) -> None:
        made = await self._ask("POST", "/tokens", {"user": "passer-by", "name": "soak"}, token=self._admin_token)
        if made:
            await self._ask("DELETE", f"/tokens/{made['details']['id']}", token=self._admin_token)

    async def _page(self, chat: str) -> None:
        await self._ask("GET", f"/chats/{chat}/messages")

    async def _follow(self, chat: str) -> None:
        try:
            with trio.move_on_after(STREAM_SECONDS):
                async with open_stream(self._url, chat, self._token, "", ()) as stream:
                    while True:
                        await stream.receive()
        except BrokenOff:
            self._counts["streams cut"] += 1

    # --- the wire -----------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: Any = None, *, key: str = "", token: str = "") -> dict[str, Any]:
        """What was answered; nothing where that is a refusal, or there is no answer."""
        data = request(method, path, token or self._token, body, host=self._address.netloc)
        if key:
            data = data.replace(b"\r\nAuthorization:", f"\r\nIdempotency-Key: {key}\r\nAuthorization:".encode(), 1)
        try:
            with trio.fail_after(ANSWER_SECONDS_MAX):
                status, answer = await self._exchange(data)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError) as error:
            self._counts[type(error).__name__] += 1
            await self._close()
            await trio.sleep(RETRY_SECONDS)
            return {}
        if status >= 300:
            self._counts[str(status)] += 1
        return dict(json.loads(answer)) if status < 300 and answer else {}

    async def _exchange(self, data: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = await trio.open_tcp_stream(self._address.hostname or "", self._address.port or 80)
        await self._connection.send_all(data)
        parser = AnswerParser()
        while True:
            received = await self._connection.receive_some(RECEIVE_BYTES)
            if not received:
                raise trio.BrokenResourceError
            for answer in parser.feed(bytes(received)):
                return answer.status, answer.body

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await trio.aclose_forcefully(connection)


async def carry_load(senders: Sequence[Sender], schedule: Schedule) -> None:
    """Until the schedule is done, or its time is up."""
    async with trio.open_nursery() as nursery:
        for sender in senders:
            nursery.start_soon(sender.run, schedule)
