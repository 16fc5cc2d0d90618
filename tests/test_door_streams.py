"""Every stream of every door, however it ends, in one lint: in order behind its one terminal event, or broken off."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster
from mcp_world import test_server
from stream_lint import LINTS, Json, Stream

pytestmark = [
    pytest.mark.cluster,
    # A client that leaves in the middle leaves its generators to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

ENDLESS = "[[tokens=100000 tps=40]]"
"""An answer that is under way until somebody ends it, however late."""
Servers = tuple[str, ...]
Request = tuple[str, Json]


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2, sse_heartbeat_seconds=1)


@pytest.fixture
async def apart(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A replica that works, and one that owns nothing and serves."""
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        await cluster.start(1, drain_seconds=1)
        await cluster.add(slots=0, sse_heartbeat_seconds=1).next_ready()
        yield cluster


@pytest.fixture
def tool_server() -> Iterator[str]:
    with test_server() as server:
        yield server.url


def tools_of(servers: Servers) -> list[Json]:
    return [{"type": "mcp", "server_label": slug} for slug in servers]


def responses(text: str, servers: Servers) -> Request:
    return "/v1/responses", {"input": text, "stream": True, "tools": tools_of(servers)}


def completions(text: str, servers: Servers) -> Request:
    messages = [{"role": "user", "content": text}]
    usage = {"include_usage": True}
    return "/v1/chat/completions", {
        "messages": messages,
        "stream": True,
        "stream_options": usage,
        "tools": tools_of(servers),
    }


def ai_sdk(text: str, servers: Servers) -> Request:
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return "/api/ai/chat", {"id": uuid4().hex, "message": message, "mcpServers": list(servers)}


def ag_ui(text: str, servers: Servers) -> Request:
    messages = [{"id": "m1", "role": "user", "content": text}]
    props = {"mcpServers": list(servers)}
    return "/api/agui", {"threadId": uuid4().hex, "runId": "r1", "messages": messages, "forwardedProps": props}


DOORS: dict[str, Callable[[str, Servers], Request]] = {
    "responses": responses,
    "completions": completions,
    "ai-sdk": ai_sdk,
    "ag-ui": ag_ui,
}


class Site:
    def __init__(self, cluster: Cluster, client: httpx.AsyncClient) -> None:
        self.cluster = cluster
        self.client = client
        self.asking = self.questioning = ""

    async def add_servers(self, url: str) -> None:
        self.asking, self.questioning = [f"{name}-{uuid4().hex[:8]}" for name in ("asks", "tells")]
        for slug, approval in ((self.asking, "ask"), (self.questioning, "never")):
            body = {"slug": slug, "url": f"{url}/mcp", "approval": approval}
            answer = await self.client.post("/api/v1/admin/mcp-servers", json=body)
            assert answer.status_code == 201, answer.text

    async def stream_of(
        self, request: Request, until: bytes = b"", on_words: Mapping[bytes, Callable[[], Any]] = MappingProxyType({})
    ) -> Stream:
        """To its end, or until something is said, behind which the client leaves. ``on_words``: what is done when they
        have come."""
        path, body = request
        raw, awaited = b"", dict(on_words)
        headers = {"Accept": "application/json, text/event-stream"}
        with trio.fail_after(WAIT_SECONDS):
            async with self.client.stream("POST", path, json=body, headers=headers) as response:
                assert response.status_code == 200, await response.aread()
                try:
                    async for piece in response.aiter_raw():
                        raw += piece
                        if until and until in raw:
                            return Stream(raw, is_clean=False)
                        for word in [word for word in awaited if word in raw]:
                            awaited.pop(word)()
                except httpx.RemoteProtocolError:
                    return Stream(raw, is_clean=False)
        return Stream(raw, is_clean=True)

    async def stop_all(self) -> None:
        for chat in (await self.client.get("/api/v1/chats")).json()["chats"]:
            if chat["status"] == "running":
                await self.client.post(f"/api/v1/chats/{chat['id']}/interrupt")


async def test_every_stream_ends_in_order_behind_its_end_and_never_without(cluster: Cluster, tool_server: str) -> None:
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with httpx.AsyncClient(base_url=cluster.replicas[0].url, headers=headers, timeout=WAIT_SECONDS) as client:
        site = Site(cluster, client)
        await site.add_servers(tool_server)
        async with trio.open_nursery() as nursery:
            for door in DOORS:
                nursery.start_soon(it_answers_fails_and_waits, site, door)
            nursery.start_soon(a_wait_of_an_mcp_client, site)
        async with trio.open_nursery() as nursery:
            for door in DOORS:
                nursery.start_soon(it_is_stopped, site, door)
        told: set[str] = set()
        async with trio.open_nursery() as nursery:
            for door in DOORS:
                nursery.start_soon(what_serves_it_dies, site, door, told)


async def it_answers_fails_and_waits(site: Site, door: str) -> None:
    asked = f'[[call={site.asking}__weather {{"city": "Oslo"}}]]'
    scenes: list[tuple[str, Servers, set[str]]] = [
        ("[[tokens=2 tps=0.25]]", (), {"response.completed", "finish", "RUN_FINISHED", "end"}),
        ("[[tokens=12 cut_after=6 times=1]]", (), {"response.completed", "finish", "RUN_FINISHED", "end"}),
        ("[[tokens=3 finish=length]]", (), {"response.incomplete", "finish", "RUN_FINISHED", "end"}),
        ("[[fail=401]]", (), {"response.failed", "error", "RUN_ERROR"}),
        (asked, (site.asking,), {"response.completed", "finish", "RUN_FINISHED", "error"}),
    ]
    for text, servers, ends in scenes:
        stream = await site.stream_of(DOORS[door](text, servers))
        assert stream.is_clean, (door, text, stream.raw[-300:])
        assert end_of(LINTS[door](stream)) in ends, (door, text)
        if "tps" in text:
            assert b"\n: ping\n" in stream.raw, "there are signs of life"
    question = f"[[call={site.questioning}__introduce {{}}]]"
    until = b"data-question" if door == "ai-sdk" else b""
    request = DOORS[door](question, (site.questioning,))
    stream = await site.stream_of(request, until)
    assert stream.is_clean == (not until), (door, stream.raw[-300:])
    told = LINTS[door](stream)
    assert end_of(told) in {"response.incomplete", "error", "RUN_FINISHED", "data-question"}, door
    said = {"responses": b"action_required", "completions": b"waits for a person", "ag-ui": b'"reason":"question"'}
    assert said.get(door, b"") in stream.raw
    if door == "ag-ui":
        await a_run_goes_on_with_an_answer(site, request, told)


async def a_run_goes_on_with_an_answer(site: Site, asked: Request, told: list[Json]) -> None:
    (interrupt,) = told[-1]["outcome"]["interrupts"]
    answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"name": "Ada"}}
    path, body = asked
    stream = await site.stream_of((path, {**body, "runId": "r2", "resume": [answer]}))
    assert stream.is_clean
    assert end_of(LINTS["ag-ui"](stream)) == "RUN_FINISHED"
    assert b"accept Ada" in stream.raw, "the tool got the answer, and gave its result"


def end_of(told: list[Json]) -> str:
    last = next(one for one in reversed(told) if one.get("choices") != [])
    return "error" if "error" in last and "type" not in last else str(last.get("type", "end"))


async def a_wait_of_an_mcp_client(site: Site) -> None:
    made = await site.client.post("/mcp", json=call("chat_create", content="[[tokens=60 tps=20]]"))
    chat = made.json()["result"]["structuredContent"]
    waiting = call("chat_wait", chat_id=chat["chat_id"], cursor=chat["cursor"], timeout=50)
    waiting["params"]["_meta"] = {"progressToken": "p"}
    stream = await site.stream_of(("/mcp", waiting))
    assert stream.is_clean
    *progress, answer = LINTS["mcp"](stream)
    assert progress
    assert answer["result"]["structuredContent"]["status"] == "waiting"


def call(name: str, **arguments: Any) -> Json:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


async def it_is_stopped(site: Site, door: str) -> None:
    async with trio.open_nursery() as nursery:
        stream = await site.stream_of(
            DOORS[door](ENDLESS, ()), on_words={b"w3": lambda: nursery.start_soon(site.stop_all)}
        )
    assert stream.is_clean
    assert end_of(LINTS[door](stream)) in {"response.incomplete", "abort", "RUN_FINISHED", "end"}


async def what_serves_it_dies(site: Site, door: str, told: set[str]) -> None:
    """Once all of them are told something."""

    def kill() -> None:
        told.add(door)
        if len(told) == len(DOORS):
            site.cluster.replicas[0].send(signal.SIGKILL)

    stream = await site.stream_of(DOORS[door](ENDLESS, ()), on_words={b"w3": kill})
    assert not stream.is_clean, "never a clean end in the middle"
    LINTS[door](stream)


async def test_an_owner_that_is_drained_and_one_that_freezes_end_no_stream(apart: Cluster) -> None:
    """P4, P6: the replica that serves them goes on with the next owner, to the last word."""
    drained, serving = apart.replicas
    heard: Counter[bytes] = Counter()

    def step(word: bytes, act: Callable[[], None]) -> Callable[[], None]:
        """Once all of them were told so much."""

        def hear() -> None:
            heard[word] += 1
            if heard[word] == len(DOORS):
                act()

        return hear

    def hand_over() -> None:
        apart.add()
        drained.send(signal.SIGTERM)

    def freeze() -> None:
        frozen = apart.replicas[-1]
        apart.add()
        frozen.send(signal.SIGSTOP)

    async def read(door: str) -> None:
        words = {b"w3": step(b"w3", hand_over), b"w90": step(b"w90", freeze)}
        # Of two attempts the end is not said, however late their owners are taken from them. The text is each one's
        # own, as attempts are counted by what was asked.
        asked = f"{door} [[tokens=160 tps=60 silence_after=100 times=2]] [[silence_after=60 times=1]]"
        stream = await site.stream_of(DOORS[door](asked, ()), on_words=words)
        assert stream.is_clean, (door, stream.raw[-300:])
        assert end_of(LINTS[door](stream)) in {"response.completed", "finish", "RUN_FINISHED", "end"}
        assert b"w159" in stream.raw

    headers = {"Authorization": f"Bearer {apart.token}"}
    async with httpx.AsyncClient(base_url=serving.url, headers=headers, timeout=WAIT_SECONDS) as client:
        site = Site(apart, client)
        async with trio.open_nursery() as nursery:
            for door in DOORS:
                nursery.start_soon(read, door)
        assert heard == {b"w3": len(DOORS), b"w90": len(DOORS)}
        log = (await client.get("/api/v1/admin/takeovers")).json()["takeovers"]
    assert Counter(row["cause"] for row in log) == {"drain": len(DOORS), "takeover": len(DOORS)}
