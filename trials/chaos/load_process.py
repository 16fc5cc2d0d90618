"""Load that must not be the run's own: ``python -m chaos.load_process PLAN``, where PLAN is a JSON object.

``{"do": "greedy", "url", "token", "seconds"}``: one user at full load: requests, streams, chats, and connections that
say nothing, or half a request. ``{"do": "huge", …, "chat"}``: one chat whose history is sent to, and read in every way.

It gives way to everything else that wants the processor (nice): what is tried is what a replica does for one user, not
how a machine is shared. It takes any answer for right; the last line of its output counts the answers by their status.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

NICENESS = 10
AUTOGROUP = Path("/proc/self/autogroup")
REQUESTERS, STREAMS, TALKERS, SILENT = 12, 40, 20, 200
PACE_SECONDS = 0.02
"""Between two requests of one requester."""
REQUEST_SECONDS_MAX = 10.0
CONTENT = "Greedy {number} [[word=g{number}x tokens=100 tps=50]]"
BIG_BYTES = 400_000
HALF_A_REQUEST = b"POST /api/v1/chats HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
PAGES_MAX = 20


class Load:
    """One user's requests; ``counts`` is what came of them."""

    def __init__(self, plan: dict[str, Any], http: httpx.AsyncClient) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._http = http
        self._numbers = itertools.count(1)
        self._chats: list[str] = []

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request; what was answered, or nothing."""
        try:
            response = await self._http.request(method, f"/api/v1{path}", json=body)
        except httpx.HTTPError as error:
            self.counts[type(error).__name__] += 1
            return {}
        self.counts[str(response.status_code)] += 1
        return dict(response.json()) if response.status_code < 300 and response.content else {}

    # --- greedy -------------------------------------------------------------------------------

    async def greedy(self) -> None:
        async with trio.open_nursery() as nursery:
            for count, task in ((TALKERS, self._talk), (STREAMS, self._follow), (REQUESTERS, self._request)):
                for _ in range(count):
                    nursery.start_soon(_for_ever, task)
            for number in range(SILENT):
                nursery.start_soon(self._keep_silent, HALF_A_REQUEST if number % 2 else b"")

    async def _talk(self) -> None:
        content = CONTENT.format(number=next(self._numbers))
        if len(self._chats) < TALKERS:
            if chat := (await self.ask("POST", "/chats", {"content": content})).get("id"):
                self._chats.append(chat)
        else:
            await self.ask(
                "POST", f"/chats/{self._chats[next(self._numbers) % TALKERS]}/messages", {"content": content}
            )

    async def _request(self) -> None:
        await self.ask("GET", "/chats?limit=100")

    async def _follow(self) -> None:
        if self._chats:
            await self.stream(self._chats[next(self._numbers) % len(self._chats)])

    async def _keep_silent(self, beginning: bytes) -> None:
        url = urlsplit(self._plan["url"])
        try:
            async with await trio.open_tcp_stream(url.hostname or "", url.port or 80) as stream:
                await stream.send_all(beginning)
                self.counts["silent connections"] += 1
                await stream.receive_some(1)
        except (OSError, trio.BrokenResourceError):
            pass
        self.counts["silent connections cut"] += 1

    # --- huge ---------------------------------------------------------------------------------

    async def huge(self) -> None:
        async with trio.open_nursery() as nursery:
            for task in (self._read_pages, self._read_stream, self._send, self._list):
                nursery.start_soon(_for_ever, task)

    async def _read_pages(self) -> None:
        after = 0
        for _ in range(PAGES_MAX):
            page = await self.ask("GET", f"/chats/{self._plan['chat']}/messages?after={after}&limit=500")
            if not page.get("messages"):
                return
            after = page["messages"][-1]["id"]

    async def _read_stream(self) -> None:
        await self.stream(self._plan["chat"])

    async def _send(self) -> None:
        content = "big " * (BIG_BYTES // 4) + "\n\n" + CONTENT.format(number=next(self._numbers))
        await self.ask("POST", f"/chats/{self._plan['chat']}/messages", {"content": content})

    async def _list(self) -> None:
        await self.ask("GET", "/chats?limit=100")
        await self.ask("GET", f"/chats/{self._plan['chat']}")

    async def stream(self, chat: str) -> None:
        """A chat's events, until they break off."""
        try:
            async with self._http.stream("GET", f"/api/v1/chats/{chat}/stream") as response:
                self.counts[f"streams {response.status_code}"] += 1
                async for data in response.aiter_raw():
                    self.counts["streamed bytes"] += len(data)
        except httpx.HTTPError as error:
            self.counts[type(error).__name__] += 1


async def _for_ever(task: Callable[[], Awaitable[None]]) -> None:
    while True:
        await task()
        await trio.sleep(PACE_SECONDS)


async def main(plan: dict[str, Any]) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=REQUESTERS + TALKERS)
    async with httpx.AsyncClient(
        base_url=plan["url"],
        headers={"Authorization": f"Bearer {plan['token']}"},
        timeout=REQUEST_SECONDS_MAX,
        trust_env=False,
        limits=limits,
    ) as http:
        load = Load(plan, http)
        with trio.move_on_after(plan["seconds"]):
            await {"greedy": load.greedy, "huge": load.huge}[plan["do"]]()
    print(json.dumps(load.counts))


def give_way() -> None:
    """Be nice, and make the session nice: where the kernel shares the processor between sessions (``sched(7)``, the
    autogroup feature), the niceness of a process counts within its session alone, and this one has its own.
    """
    os.nice(NICENESS)
    with suppress(OSError):  # a kernel without such groups
        AUTOGROUP.write_text(str(NICENESS))


if __name__ == "__main__":
    give_way()
    trio.run(main, json.loads(sys.argv[1]))
