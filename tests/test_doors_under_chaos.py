"""Every published client, unmodified, at a cluster as ``scripts/run`` starts it, while ``scripts/chaos`` hits replicas.

They are killed, drained and frozen by chance, and each client does all that it can meanwhile: create, stream, tools,
reasoning, errors, cancel, list, delete (P1, P3, P4, P6, P7). ``DOOR_FAULTS=20 pytest tests/test_doors_under_chaos.py``
runs it, with so many faults; ``test_doors_outlive_faults`` shows the same of each fault, and is among all tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
import trio
from cluster_process import ClusterProcess, cluster_process
from door_callers import (
    MODEL,
    UNDER_WAY,
    Addresses,
    Tell,
    called,
    in_thread,
    mcp_client,
    published_clients,
    read_response,
)
from mcp import MCPError
from node_clients import NodeClient, node_client
from test_ai_sdk_clients import words

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif("DOOR_FAULTS" not in os.environ, reason="takes minutes: DOOR_FAULTS says how many faults"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

FAULTS = int(os.environ.get("DOOR_FAULTS", "0"))
KINDS = "kill,term,stop"
TRIALS = Path(__file__).parent.parent / "trials"
TRIES = 500
TOLD = "[[tokens=40 reasoning=3 tps=40]]"
CALLS = '[[call=get_weather {"city": "Oslo"}]]'
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
FUNCTION: Any = {"type": "function", "strict": False, **WEATHER}
Life = Callable[[Addresses], Awaitable[None]]


def unheard(text: str = "", at: int | None = None) -> None:
    """Nobody waits for a word."""


# --- what each client can do ------------------------------------------------------------------


def of_openai(addresses: Addresses, _: str, tell: Tell) -> Any:
    asked = read_response(addresses, CALLS, tell, tools=[FUNCTION]).events[-1]["response"]
    (call,) = [item for item in asked["output"] if item["type"] == "function_call"]
    output = [{"type": "function_call_output", "call_id": call["call_id"], "output": "12 degrees"}]
    told = read_response(addresses, output, tell, previous_response_id=asked["id"], tools=[FUNCTION])
    assert "12 degrees" in told.text
    failed = read_response(addresses, "[[fail=401]]", tell).events[-1]
    assert failed["type"] == "response.failed"
    with openai.OpenAI(base_url=f"{addresses.urls[0]}/v1", api_key=addresses.token, max_retries=20) as client:
        assert [item.type for item in client.responses.input_items.list(asked["id"])] == ["message"]
        made = client.responses.create(model=MODEL, input="[[tokens=2000 tps=40]]", background=True)
        assert client.responses.cancel(made.id).status == "cancelled"
        with suppress(openai.NotFoundError):  # the reply to the first try was lost
            client.responses.delete(made.id)
        for gone in (made.id, "resp_x"):
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(gone)


async def of_openai_js(client: NodeClient, addresses: Addresses) -> None:
    told = await client("live", urls=list(addresses.urls), token=addresses.token, call=CALLS)
    assert "12 degrees" in told.pop("text")
    gone = "NotFoundError"
    assert told == {
        "items": ["message"],
        "failed": "failed",
        "missing": gone,
        "cancelled": "cancelled",
        "gone": gone,
    }


async def of_ai_sdk(client: NodeClient, addresses: Addresses) -> None:
    order: dict[str, Any] = {"id": uuid.uuid4().hex, "urls": list(addresses.urls), "token": addresses.token}
    told = await client("live", text=CALLS, body={"tools": [WEATHER]}, **order)
    assert (told["told"]["status"], "12 degrees" in told["told"]["text"]) == ("ready", True)
    said = [one["parts"] for one in told["stopped"]["messages"] if one["role"] == "assistant"][1:]
    assert all(words(400).startswith(text_of(parts)) for parts in said), "nothing, if it was stopped before that"


def text_of(parts: Any) -> str:
    return "".join(part["text"] for part in parts if part["type"] == "text")


async def of_mcp(addresses: Addresses, *, mode: str) -> None:
    async def call(tool: str, **arguments: Any) -> Any:
        for _ in range(TRIES):
            try:
                async with mcp_client(addresses.urls[0], addresses.token, mode) as client:
                    return await called(client, tool, **arguments)
            except* (MCPError, httpx2.TransportError):
                pass
        raise AssertionError("nobody answers")

    async def until_rest(at: Any) -> Any:
        while (told := await call("chat_wait", chat_id=at["chat_id"], cursor=at["cursor"]))["status"] in UNDER_WAY:
            pass
        return told

    keys = [uuid.uuid4().hex for _ in range(4)]
    made = await call("chat_create", content=CALLS, tools=[WEATHER], title=keys[0], idempotency_key=keys[0])
    (action,) = (await until_rest(made))["actions"]
    results = [{"call_id": action["call_id"], "content": "12 degrees"}]
    chat = {"chat_id": made["chat_id"]}
    answered = await call("chat_answer", results=results, idempotency_key=keys[1], **chat)
    assert "12 degrees" in (await until_rest(answered))["text"]
    await call("chat_send", content="[[tokens=2000 tps=40]]", idempotency_key=keys[2], **chat)
    await call("chat_interrupt", idempotency_key=keys[3], **chat)
    assert [one["chat_id"] for one in (await call("chats_list", query=keys[0]))["chats"]] == [made["chat_id"]]
    assert (await call("chat_archive", **chat))["archived"]


@asynccontextmanager
async def lives() -> AsyncIterator[dict[str, Life]]:
    """What is done over and over again, by its name."""
    async with (
        node_client("openai.mjs", "openai6") as openai6,
        node_client("openai.mjs", "openai7") as openai7,
        node_client("ai_sdk.mjs", "ai6") as ai6,
        node_client("ai_sdk.mjs", "ai7") as ai7,
        published_clients() as callers,
    ):

        def asking(name: str) -> Life:
            async def ask(addresses: Addresses) -> None:
                answer = await callers[name](addresses, f"{uuid.uuid4().hex} {TOLD}", unheard)
                await is_as_history_says(addresses, answer.chat, answer.text)

            return ask

        async def python(addresses: Addresses) -> None:
            await in_thread(of_openai, addresses, "", unheard)

        found: dict[str, Life] = {name: asking(name) for name in callers}
        found |= {"all of openai": python}
        found |= {f"all of {name}": partial(of_openai_js, one) for name, one in (("6", openai6), ("7", openai7))}
        found |= {f"all of {name}": partial(of_ai_sdk, one) for name, one in (("ai6", ai6), ("ai7", ai7))}
        found |= {f"all of mcp, {mode}": partial(of_mcp, mode=mode) for mode in ("legacy", "2026-07-28")}
        yield found


async def is_as_history_says(addresses: Addresses, chat: str, text: str) -> None:
    headers = {"Authorization": f"Bearer {addresses.token}"}
    transport = httpx.AsyncHTTPTransport(retries=20)
    async with httpx.AsyncClient(
        base_url=addresses.urls[0], headers=headers, transport=transport, timeout=60
    ) as client:
        for _ in range(TRIES):
            with suppress(httpx.TransportError):
                told = (await client.get(f"/api/ai/chat/{chat}")).json()["messages"]
                break
    assert [one["role"] for one in told] == ["user", "assistant"]
    assert text == words(40) == text_of(told[1]["parts"])


# --- the run ----------------------------------------------------------------------------------


@pytest.fixture
def cluster(servers_dir: Path) -> Any:
    with cluster_process(servers_dir / f"doors-{uuid.uuid4().hex[:8]}", "--replicas", "3") as cluster:
        yield cluster


async def test_each_client_does_all_that_it_can_while_replicas_are_killed_drained_and_frozen(
    cluster: ClusterProcess,
) -> None:
    addresses = Addresses([cluster.local.url] * TRIES, cluster.token)
    done: Counter[str] = Counter()
    is_over = trio.Event()
    async with lives() as living:

        async def live(name: str, life: Life) -> None:
            while not (is_over.is_set() and done[name]):
                await life(addresses)
                done[name] += 1

        async with trio.open_nursery() as nursery:
            for name, life in living.items():
                nursery.start_soon(live, name, life)
            told = await chaos(addresses)
            is_over.set()
    assert told.returncode == 0, told.stderr.decode()
    assert set(done) == set(living)
    print(dict(done))


async def chaos(addresses: Addresses) -> subprocess.CompletedProcess[bytes]:
    options = ["--faults", KINDS, "--kills", str(FAULTS), "--chats", "3", "--tell-times", "--simulated-model"]
    where = ["--url", addresses.urls[0], "--token", addresses.token]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(TRIALS), os.environ.get("PYTHONPATH", "")))}
    return await trio.run_process(
        [sys.executable, "-m", "chaos", *where, *options],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment,
    )
