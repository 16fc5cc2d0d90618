"""Programs that use published clients and do not give up: each gets one answer, whatever breaks meanwhile.

Each knows a few addresses, and asks the next one where one breaks off. An ``Audience`` is told what was heard.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import httpx2
import openai
import trio
from cluster_processes import WAIT_SECONDS
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from node_clients import NodeClient, node_client, prepared_node

MODEL = "simulated"
BREAKS = (openai.APIConnectionError, openai.InternalServerError, httpx2.HTTPError)
ENDS = ("response.completed", "response.failed", "response.incomplete")
UNDER_WAY = ("pending", "running")
PERSIST_SECONDS_MAX = 1800.0
"""Who waits for what a client hears bounds it."""
_WORD = re.compile(r"\bw\d+\b")
Event = dict[str, Any]


class Addresses(NamedTuple):
    urls: Sequence[str]
    token: str


class Answer(NamedTuple):
    """What a client ends up with. ``chat`` is the ID in the API, or the client's own name of it; ``parts`` what an AI
    SDK's page shows; ``events`` those of a response, each once and in order."""

    text: str
    chat: str
    parts: Sequence[Any] = ()
    events: Sequence[Event] = ()


class Audience:
    """What each caller has heard so far, and which of its addresses it is connected to."""

    def __init__(self, names: Sequence[str]) -> None:
        self.at = dict.fromkeys(names, -1)
        self._words: dict[str, set[str]] = {name: set() for name in names}
        self._changed = trio.Event()

    def tell(self, name: str, text: str = "", at: int | None = None) -> None:
        if at is not None:
            self.at[name] = at
        self._words[name].update(_WORD.findall(text))
        self._changed.set()
        self._changed = trio.Event()

    async def all_heard(self, word: str) -> None:
        await self._until(lambda name: word in self._words[name], word)

    async def all_at(self, number: int) -> None:
        await self._until(lambda name: self.at[name] == number, f"address {number}")

    async def _until(self, holds: Callable[[str], bool], awaited: str) -> None:
        with trio.move_on_after(WAIT_SECONDS):
            while not all(map(holds, self.at)):
                await self._changed.wait()
        lacking = [(name, at) for name, at in self.at.items() if not holds(name)]
        assert not lacking, f"{awaited} did not come to {lacking}"


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """What a cluster alone knows has to be polled."""
    with trio.fail_after(WAIT_SECONDS):
        while True:
            if await holds():
                return
            await trio.sleep(0.1)


class Tell(Protocol):
    def __call__(self, text: str = "", at: int | None = None) -> None: ...


Caller = Callable[[Addresses, str, Tell], Awaitable[Answer]]
"""Asks a question, and gets its answer."""


# --- OpenAI's client for Python ---------------------------------------------------------------


def _response_of(events: Sequence[Any]) -> Answer:
    final = events[-1].response
    return Answer(
        final.output_text, final.model_extra["chat_id"], events=[event.to_dict(warnings=False) for event in events]
    )


def _opened(client: Any, asked: Mapping[str, Any], seen: Sequence[Any], *, helper: bool) -> Any:
    """The answer from its beginning on, or what comes behind what was seen."""
    rest = {"starting_after": seen[-1].sequence_number} if seen else {}
    if helper:
        return client.responses.stream(**({"response_id": seen[0].response.id} if seen else asked), **rest)
    if seen:
        return client.responses.retrieve(seen[0].response.id, stream=True, **rest)
    return client.responses.create(stream=True, **asked)


def read_response(addresses: Addresses, question: Any, tell: Tell, *, helper: bool = False, **more: Any) -> Answer:
    seen: list[Any] = []
    asked = {"model": MODEL, "input": question, **more}
    for at, url in enumerate(addresses.urls):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=addresses.token, max_retries=0) as client:
            try:
                with _opened(client, asked, seen, helper=helper) as stream:
                    tell(at=at)
                    for event in stream:
                        seen.append(event)
                        tell(event.delta if event.type == "response.output_text.delta" else "")
            except BREAKS:
                continue
        assert seen[-1].type in ENDS, "never a clean end in the middle"
        return _response_of(seen)
    raise AssertionError("no address had the end")


async def _read_response_async(addresses: Addresses, question: str, tell: Tell, *, helper: bool) -> Answer:
    seen: list[Any] = []
    asked = {"model": MODEL, "input": question}
    for at, url in enumerate(addresses.urls):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=addresses.token, max_retries=0) as client:
            try:
                opened = _opened(client, asked, seen, helper=helper)
                async with opened if helper else await opened as stream:
                    tell(at=at)
                    async for event in stream:
                        seen.append(event)
                        tell(event.delta if event.type == "response.output_text.delta" else "")
            except BREAKS:
                continue
        assert seen[-1].type in ENDS, "never a clean end in the middle"
        return _response_of(seen)
    raise AssertionError("no address had the end")


def _read_completion(addresses: Addresses, question: str, tell: Tell) -> Answer:
    """Chunks have no numbers: a repeat with its key tells the same answer from its beginning on."""
    messages: Any = [{"role": "user", "content": question}]
    key = {"Idempotency-Key": uuid.uuid4().hex}
    for at, url in enumerate(addresses.urls):
        said, chunk = "", None
        with openai.OpenAI(base_url=f"{url}/v1", api_key=addresses.token, max_retries=0) as client:
            try:
                with client.chat.completions.create(
                    model=MODEL, messages=messages, stream=True, extra_headers=key
                ) as stream:
                    tell(at=at)
                    for chunk in stream:
                        said += chunk.choices[0].delta.content or ""
                        tell(said)
            except BREAKS:
                continue
        assert chunk is not None
        assert chunk.choices[0].finish_reason == "stop", "never a clean end in the middle"
        return Answer(said, str(uuid.UUID(chunk.id.removeprefix("chatcmpl-")[:32])))
    raise AssertionError("no address had the end")


async def in_thread(
    read: Callable[[Addresses, str, Tell], Answer], addresses: Addresses, question: str, tell: Tell
) -> Answer:
    def tell_from_thread(text: str = "", at: int | None = None) -> None:
        trio.from_thread.run_sync(tell, text, at)

    return await trio.to_thread.run_sync(read, addresses, question, tell_from_thread, abandon_on_cancel=True)


def _under_asyncio(addresses: Addresses, question: str, tell: Tell, *, helper: bool) -> Answer:
    return asyncio.run(_read_response_async(addresses, question, tell, helper=helper))


# --- clients for Node -------------------------------------------------------------------------


async def _persist(client: NodeClient, addresses: Addresses, tell: Tell, **order: Any) -> Any:
    async def hear(told: dict[str, Any]) -> None:
        tell(**told)

    order |= {"urls": list(addresses.urls), "token": addresses.token}
    return await client("persist", on_told=hear, seconds_max=PERSIST_SECONDS_MAX, **order)


async def _openai_js(
    client: NodeClient, addresses: Addresses, question: str, tell: Tell, *, helper: bool = False
) -> Answer:
    told = await _persist(client, addresses, tell, input=question, helper=helper, more={"background": not helper})
    assert told["ended"], ("never a clean end in the middle", told["broke"])
    assert told["again"] == told["seen"], "each event once, in order"
    last = told["seen"][-1]
    assert last["type"] == "response.completed", last
    texts = [part["text"] for item in last["response"]["output"] for part in item.get("content") or ()]
    return Answer("".join(texts), last["response"]["chat_id"], events=told["seen"])


async def _ai_sdk(client: NodeClient, addresses: Addresses, question: str, tell: Tell) -> Answer:
    chat = uuid.uuid4().hex
    told = await _persist(client, addresses, tell, id=chat, text=question)
    assert (told["status"], told["error"], len(told["messages"])) == ("ready", None, 2), told
    return Answer(told["text"], chat, parts=told["messages"][1]["parts"])


async def _ag_ui(client: NodeClient, addresses: Addresses, question: str, tell: Tell) -> Answer:
    chat = uuid.uuid4().hex
    told = await _persist(client, addresses, tell, id=chat, text=question)
    assert (told["failed"], told["outcome"]) == (None, "success"), told["broke"]
    said = [one["content"] for one in told["messages"] if one["role"] == "assistant"]
    return Answer("".join(said), chat)


async def _mcp_js(client: NodeClient, addresses: Addresses, question: str, tell: Tell) -> Answer:
    told = await _persist(client, addresses, tell, content=question)
    assert told["status"] == "waiting", told
    return Answer(told["text"], told["chat"])


# --- MCP's client for Python ------------------------------------------------------------------


async def _mcp(addresses: Addresses, question: str, tell: Tell, *, mode: str) -> Answer:
    made: dict[str, Any] = {}

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        tell(message or "")

    for at, url in enumerate(addresses.urls):
        try:
            async with mcp_client(url, addresses.token, mode) as client:
                made = made or (await called(client, "chat_create", content=question))
                tell(at=at)
                cursor = {"chat_id": made["chat_id"], "cursor": made["cursor"]}
                while (told := await called(client, "chat_wait", hear, timeout=20, **cursor))["status"] in UNDER_WAY:
                    pass
                return Answer(told["text"], made["chat_id"])
        except* (MCPError, httpx2.TransportError):
            pass
    raise AssertionError("no address had the end")


@asynccontextmanager
async def mcp_client(url: str, token: str, mode: str) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


async def called(client: Client, tool: str, hear: Any = None, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, progress_callback=hear)
    assert not result.is_error, result.content
    told: dict[str, Any] = result.structured_content
    return told


# --- all of them ------------------------------------------------------------------------------


@asynccontextmanager
async def published_clients() -> AsyncIterator[dict[str, Caller]]:
    """Each client, by its name, in each way in which it reads an answer."""
    await trio.to_thread.run_sync(prepared_node)
    callers: dict[str, Caller] = {"completions": partial(in_thread, _read_completion)}
    for way, helper in (("raw", False), ("helper", True)):
        callers |= {
            f"openai, {way}": partial(in_thread, partial(read_response, helper=helper, background=not helper)),
            f"openai on trio, {way}": partial(_read_response_async, helper=helper),
            f"openai on asyncio, {way}": partial(in_thread, partial(_under_asyncio, helper=helper)),
        }
    callers |= {f"mcp, {mode}": partial(_mcp, mode=mode) for mode in ("legacy", "2026-07-28")}
    async with AsyncExitStack() as stack:
        for name, script, package, caller in NODE_CALLERS:
            client = await stack.enter_async_context(node_client(script, package))
            callers[name] = partial(caller, client)
        yield callers


NODE_CALLERS: list[tuple[str, str, str, Callable[..., Awaitable[Answer]]]] = [
    *(
        (f"{package}, {way}", "openai.mjs", package, partial(_openai_js, helper=way == "helper"))
        for package in ("openai6", "openai7")
        for way in ("raw", "helper")
    ),
    *((package, "ai_sdk.mjs", package, _ai_sdk) for package in ("ai6", "ai7")),
    ("@ag-ui/client", "ag_ui.mjs", "@ag-ui/client", _ag_ui),
    ("mcp in JavaScript", "mcp.mjs", "@modelcontextprotocol/sdk/client/index.js", _mcp_js),
]
