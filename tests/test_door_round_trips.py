"""What a door asks of the database before the first token of an answer: as little as our own stream, which makes the
chat and reads it. What a door has to do besides is done at the same time, or costs one look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import trio
from web_world import World, connect, read_until, serving

from chatcluster.memory.link import Link
from chatcluster.notices import Notices

ASKED = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
RUN = {"runId": "r", "messages": [{"id": "m", "role": "user", "content": "hello"}], "tools": [], "context": []}
SAID = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
OWN = ["create", "read"]


class CountedLink(Link):
    """``asked`` is what crossed it, in order. What is ``slow`` is answered when something else was asked after it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.slow = ""
        self._more = trio.Event()

    @asynccontextmanager
    async def crossing(self, operation: str) -> AsyncIterator[None]:
        self._more.set()
        self.asked.append(operation)
        self._more = trio.Event()
        if operation == self.slow:
            with trio.fail_after(60):
                await self._more.wait()
        await trio.lowlevel.checkpoint()
        yield


@asynccontextmanager
async def opened(link: CountedLink, path: str, body: dict[str, Any]) -> AsyncIterator[None]:
    """A new chat, up to the head of the stream that its answer is told by."""
    world = World(link)
    world.feeds = world.real_feeds  # type: ignore[assignment]
    world.notices = Notices(world.pubsub)  # type: ignore[assignment]
    world.notices.set_readers(world.real_feeds.learn, world.real_feeds.hand_over)
    content = msgspec.json.encode(body)
    async with serving(world), await connect(world.url) as stream:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {await world.token()}\r\n"
        await stream.send_all(f"{head}Accept: text/event-stream\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        await stream.send_all(content)
        with trio.fail_after(60):
            assert b" 20" in await read_until(stream, b"\r\n\r\n")
        yield


async def test_our_own_stream_makes_the_chat_and_reads_it() -> None:
    link = CountedLink()
    async with opened(link, "/api/v1/chats", {"content": "hello"}):
        assert link.asked == OWN


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/responses", {"input": "hello", "stream": True}), ("/v1/chat/completions", SAID)]
)
async def test_what_is_kept_of_a_response_is_written_while_its_chat_is_read(path: str, body: dict[str, Any]) -> None:
    link = CountedLink()
    link.slow = "add_response"
    async with opened(link, path, body):
        assert link.asked == ["create", "add_response", "read"]


@pytest.mark.parametrize("name", ["a name", str(uuid4())], ids=["name", "uuid"])
@pytest.mark.parametrize("door", ["ai-sdk", "ag-ui"])
async def test_a_chat_that_its_client_names_is_looked_for_once(door: str, name: str) -> None:
    doors: dict[str, tuple[str, dict[str, Any]]] = {
        "ai-sdk": ("/api/ai/chat", {"id": name, "message": ASKED}),
        "ag-ui": ("/api/agui", {"threadId": name, **RUN}),
    }
    (path, body), link = doors[door], CountedLink()
    async with opened(link, path, body):
        assert link.asked == ["find", *OWN]
