"""``/mcp`` with the protocol's own Python client, of both eras, against replicas that are killed (P1, P4, P9)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import msgspec
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from chatcluster.config import Settings
from chatcluster.local.provisioning import create_token

pytestmark = [
    pytest.mark.cluster,
    # The client leaves its generators to the garbage collector, of which trio complains.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <async_generator:pytest.PytestUnraisableExceptionWarning"),
]

ERAS = ("legacy", "2026-07-28", "auto")
Json = dict[str, Any]


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2)


@asynccontextmanager
async def connected(
    cluster: Cluster, replica: Process | None = None, *, mode: str = "auto", token: str | None = None
) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {token or cluster.token}"}
    url = f"{(replica or cluster.replicas[0]).url}/mcp"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=WAIT_SECONDS, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def called(client: Client, tool: str, **arguments: Any) -> Json:
    """The answer of a tool, which is the same in words and as a structure."""
    with trio.fail_after(WAIT_SECONDS):
        result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert not result.is_error, content
    told: Json = msgspec.json.decode(content.text)  # type: ignore[union-attr]
    assert told == result.structured_content
    return told


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    (content,) = result.content
    assert result.is_error, content
    assert result.structured_content is None
    return str(content.text)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_chat_from_its_first_message_to_the_archive(cluster: Cluster, mode: str) -> None:
    async with connected(cluster, mode=mode) as client:
        assert (await called(client, "models_list"))["models"] == [
            {"name": "simulated", "is_default": True, "context_tokens": None}
        ]
        made = await called(client, "chat_create", content="hi [[tokens=5]]", title="Greeting")
        chat_id = made["chat_id"]
        told = await called(client, "chat_wait", chat_id=chat_id, cursor=made["cursor"])
        assert (told["status"], told["text"], told["actions"]) == ("waiting", words(5), [])
        again = await called(client, "chat_wait", chat_id=chat_id, cursor=made["cursor"])
        assert again == told, "the same cursor tells the same"
        nothing = await called(client, "chat_wait", chat_id=chat_id, cursor=told["cursor"])
        assert (nothing["status"], nothing["text"]) == ("waiting", "")
        sent = await called(client, "chat_send", chat_id=chat_id, content="[[tokens=3]]", busy="reject")
        assert not sent["queued"]
        assert (await called(client, "chat_wait", chat_id=chat_id))["text"] == words(3), "from the last message on"
        read = await called(client, "chat_read", chat_id=chat_id)
        assert [one["role"] for one in read["messages"]] == ["user", "assistant"] * 2
        assert read["messages"][1]["text"] == words(5)
        after = await called(client, "chat_read", chat_id=chat_id, after=read["messages"][1]["id"], limit=1)
        assert [one["id"] for one in after["messages"]] == [read["messages"][2]["id"]]
        assert after["has_more"]
        assert (await called(client, "chat_archive", chat_id=chat_id))["archived"]
        assert (await called(client, "chats_list"))["chats"] == []
        (listed,) = (await called(client, "chats_list", archived=True, query="greet"))["chats"]
        assert listed["chat_id"] == chat_id
        assert not (await called(client, "chat_archive", chat_id=chat_id, archived=False))["archived"]


async def test_a_wait_outlives_the_replica_that_works_and_the_one_that_serves_it(cluster: Cluster) -> None:
    """What dies is repeated at another replica, with the same cursor: nothing is lost, or doubled."""
    serving, other = cluster.replicas
    async with connected(cluster, other, mode="2026-07-28") as client:
        made = await called(client, "chat_create", content="[[tokens=150 tps=30]]")
        said: list[str] = []

        async def kill(progress: float, total: float | None, message: str | None) -> None:
            if "characters" in (message or "") and not said:
                serving.send(signal.SIGKILL)
            said.append(message or "")

        asked = {"chat_id": made["chat_id"], "cursor": made["cursor"], "timeout": 50}
        with pytest.RaisesGroup(MCPError, allow_unwrapped=True, flatten_subgroups=True):
            async with connected(cluster, serving) as dying:
                await dying.call_tool("chat_wait", asked, progress_callback=kill)
        assert said, "it was told of progress"
        told = await called(client, "chat_wait", **asked)
        assert (told["status"], told["text"]) == ("waiting", words(150))


async def test_an_answer_that_breaks_off_is_gone_on_with_by_its_last_event_at_any_replica(cluster: Cluster) -> None:
    """P1, P3, P9: it is the answer to the same call, and what the event says opens nothing to anybody else."""
    one, other = (f"{replica.url}/mcp" for replica in cluster.replicas)
    eve = await create_token(Settings.of(database_url=cluster._database_url), user="eve", admin=False, name="tests")
    async with connected(cluster) as client, httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
        made = await called(client, "chat_create", content="[[tokens=20]] [[silence_after=5 times=1]]")
        arguments = {"chat_id": made["chat_id"], "cursor": made["cursor"], "timeout": 50}
        params = {"name": "chat_wait", "arguments": arguments, "_meta": {"progressToken": "p"}}
        call = {"jsonrpc": "2.0", "id": "seven", "method": "tools/call", "params": params}
        head = {"accept": "text/event-stream", "authorization": f"Bearer {cluster.token}"}

        async def first_event(version: str) -> list[str]:
            """And then the client leaves, in mid-answer."""
            headers = head | {"mcp-protocol-version": version}
            async with http.stream("POST", one, json=call, headers=headers) as response:
                text = ""
                async for more in response.aiter_text():
                    text += more
                    if found := [event for event in text.split("\n\n")[:-1] if not event.startswith(":")]:
                        return found[0].split("\n")
            raise AssertionError("it ended")

        assert not [line for line in await first_event("2025-06-18") if line.startswith("id:")], "it knows none"
        event_id, retry, data = await first_event("2025-11-25")
        assert (event_id[:4], retry, data) == ("id: ", "retry: 2000", "data:")

        async def go_on(token: str = cluster.token) -> list[Json]:
            headers = head | {"authorization": f"Bearer {token}", "last-event-id": event_id[4:]}
            response = await http.get(other, headers=headers)
            assert response.headers["content-type"].startswith("text/event-stream")
            data = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
            return [msgspec.json.decode(one) for one in data]

        (stranger,) = await go_on(eve)
        assert "chat_not_found" in stranger["result"]["content"][0]["text"]
        heard: list[Json] = []

        async def listen() -> None:
            heard.extend(await go_on())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await called(client, "chat_interrupt", chat_id=made["chat_id"])
        *progress, answer = heard
        assert {one["params"]["progressToken"] for one in progress} <= {"p"}
        assert answer["id"] == "seven"
        assert answer["result"]["structuredContent"]["status"] == "waiting"
        assert await go_on() == [answer], "it is the same afterwards"


async def test_a_replica_that_leaves_answers_the_waits_on_it(cluster: Cluster) -> None:
    leaving, other = cluster.replicas
    async with connected(cluster, leaving) as client:
        made = await called(client, "chat_create", content="[[tokens=90 tps=15]]")

        async def drain(progress: float, total: float | None, message: str | None) -> None:
            leaving.send(signal.SIGTERM)

        asked = {"chat_id": made["chat_id"], "cursor": made["cursor"], "timeout": 50}
        result = await client.call_tool("chat_wait", asked, progress_callback=drain)
        assert result.structured_content["status"] in ("running", "pending")
        asked["cursor"] = result.structured_content["cursor"]
    async with connected(cluster, other) as client:
        assert (await called(client, "chat_wait", **asked))["text"] == words(90)


async def test_a_wait_that_is_over_says_so_and_what_was_said_is_not_lost(cluster: Cluster) -> None:
    async with connected(cluster) as client:
        made = await called(client, "chat_create", content="[[tokens=80 tps=80 first_ms=4000]]")
        asked = {"chat_id": made["chat_id"], "cursor": made["cursor"]}
        looked = await called(client, "chat_wait", **asked, timeout=0)
        assert (looked["status"] in ("pending", "running"), looked["text"]) == (True, "")
        soon = await called(client, "chat_wait", **asked, timeout=0.2)
        assert "chat_wait" in soon["next"]
        told = await called(client, "chat_wait", chat_id=made["chat_id"], cursor=soon["cursor"])
        assert told["text"] == words(80)


async def test_a_repeat_with_its_key_does_nothing_twice(cluster: Cluster) -> None:
    one_replica, other = cluster.replicas
    async with connected(cluster, one_replica) as one, connected(cluster, other, mode="legacy") as two:
        asked = {"content": "[[tokens=2]]", "idempotency_key": "made-1"}
        made = await called(one, "chat_create", **asked)
        assert await called(two, "chat_create", **asked) == made
        send = {"chat_id": made["chat_id"], "content": "[[tokens=3]]", "idempotency_key": "sent-1"}
        assert await called(one, "chat_send", **send) == await called(two, "chat_send", **send)
        await called(one, "chat_wait", chat_id=made["chat_id"])
        assert len((await called(one, "chat_read", chat_id=made["chat_id"]))["messages"]) == 4
        assert "idempotency_key_reused" in await refused(one, "chat_create", content="b", idempotency_key="made-1")


async def test_an_interrupt_keeps_what_was_said(cluster: Cluster) -> None:
    async with connected(cluster) as client:
        made = await called(client, "chat_create", content="[[tokens=2000 tps=20]]")

        async def interrupt(progress: float, total: float | None, message: str | None) -> None:
            if "characters" in (message or ""):
                nursery.start_soon(stop)

        async def stop() -> None:
            await client.call_tool("chat_interrupt", {"chat_id": made["chat_id"]})

        async with trio.open_nursery() as nursery:
            asked = {"chat_id": made["chat_id"], "cursor": made["cursor"], "timeout": 50}
            result = await client.call_tool("chat_wait", asked, progress_callback=interrupt)
        told = result.structured_content
        assert told["status"] == "waiting"
        assert words(2000).startswith(told["text"])
        assert told["text"]


TOOL = {
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def test_the_results_of_the_callers_own_tools(cluster: Cluster) -> None:
    async with connected(cluster) as client:
        made = await called(client, "chat_create", content="[[call=get_weather {}]]", tools=[TOOL])
        told = await called(client, "chat_wait", chat_id=made["chat_id"], cursor=made["cursor"])
        assert told["status"] == "requires_action"
        (action,) = told["actions"]
        assert (action["kind"], action["name"]) == ("client", "get_weather")
        results = [{"call_id": action["call_id"], "content": "sunny"}]
        answered = await called(client, "chat_answer", chat_id=made["chat_id"], results=results)
        assert answered["answered"] == [action["call_id"]]
        told = await called(client, "chat_wait", chat_id=made["chat_id"], cursor=answered["cursor"])
        assert told["status"] == "waiting"
        read = await called(client, "chat_read", chat_id=made["chat_id"])
        assert [one["role"] for one in read["messages"]] == ["user", "assistant", "tool", "assistant"]
        assert "sunny" in read["messages"][2]["text"]


async def test_mistakes_are_told_in_words_that_help(cluster: Cluster) -> None:
    async with connected(cluster) as client:
        nobody = "00000000-0000-4000-8000-000000000000"
        assert "chats_list" in await refused(client, "chat_wait", chat_id=nobody)
        assert "unknown field `text`" in await refused(client, "chat_create", text="x")
        assert "missing required field `content`" in await refused(client, "chat_send", chat_id=nobody)
        assert "<= 50" in await refused(client, "chat_wait", chat_id=nobody, timeout=51)
        made = await called(client, "chat_create", content=None, title="at rest")
        assert made["status"] == "waiting"
        assert "invalid_cursor" in await refused(client, "chat_wait", chat_id=made["chat_id"], cursor="x")
        assert "invalid_cursor" in await refused(client, "chat_wait", chat_id=made["chat_id"], cursor="99")
        assert "not_allowed_in_status" in await refused(client, "chat_interrupt", chat_id=made["chat_id"])
        with pytest.raises(MCPError, match="chat_create"):
            await client.call_tool("no_such_tool", {})


async def test_nobody_reads_or_writes_what_is_not_theirs(cluster: Cluster) -> None:
    """P9."""
    settings = Settings.of(database_url=cluster._database_url)
    other = await create_token(settings, user="eve", admin=False, name="tests")
    async with connected(cluster) as ada, connected(cluster, token=other) as eve:
        made = await called(ada, "chat_create", content="[[tokens=2]]")
        for tool, more in (
            ("chat_wait", {}),
            ("chat_read", {}),
            ("chat_send", {"content": "x"}),
            ("chat_interrupt", {}),
            ("chat_answer", {"results": [{"call_id": "x", "content": "x"}]}),
            ("chat_archive", {}),
        ):
            assert "chat_not_found" in await refused(eve, tool, chat_id=made["chat_id"], **more)
        assert (await called(eve, "chats_list"))["chats"] == []


async def test_the_hints_say_what_each_tool_does(cluster: Cluster) -> None:
    async with connected(cluster) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        hints: Json = {name: tool.annotations for name, tool in tools.items()}
        assert [name for name, hint in hints.items() if hint.read_only_hint] == [
            "chat_wait",
            "chat_read",
            "chats_list",
            "models_list",
        ]
        assert [name for name, hint in hints.items() if hint.destructive_hint] == ["chat_answer"]
        for tool in tools.values():
            assert tool.input_schema["type"] == (tool.output_schema or {})["type"] == "object"


async def test_what_is_no_request_is_an_error_of_the_protocol(cluster: Cluster) -> None:
    url, good = f"{cluster.replicas[0].url}/mcp", {"Authorization": f"Bearer {cluster.token}"}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with httpx.AsyncClient(headers=good) as http:
        for body, code in (
            (b"{", -32700),
            (b"[]", -32600),
            (b'{"jsonrpc":"2.0","id":1,"method":"no/such"}', -32601),
            (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}', -32602),
            (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        ):
            answer = await http.post(url, content=body, headers={"content-type": "application/json"})
            assert answer.json()["error"]["code"] == code, body
        assert (await http.post(url, json=ping)).json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
        said = await http.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert (said.status_code, said.content) == (202, b"")
        unknown = await http.post(url, json=ping, headers={"mcp-protocol-version": "2020-01-01"})
        assert unknown.json()["error"]["code"] == -32022
        lying = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"}
        envelope = {f"io.modelcontextprotocol/{key}": value for key, value in VERSION.items()}
        stateless = {"jsonrpc": "2.0", "id": 7, "method": "server/discover", "params": {"_meta": envelope}}
        assert (await http.post(url, json=stateless, headers=lying)).json()["error"]["code"] == -32020
        assert (await http.get(url)).status_code == 405, "nothing is told but answers"
        for event_id in ("1", "WzFd", "bnVsbA==", "a" * 4000):
            nowhere = await http.get(url, headers={"last-event-id": event_id})
            assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (400, -32602), event_id
    async with httpx.AsyncClient(headers={"Authorization": "Bearer ccl_wrong"}) as http:
        answer = await http.post(url, json=ping)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["data"]["code"] == "invalid_token"
    with pytest.RaisesGroup(pytest.RaisesExc(MCPError, match="token"), flatten_subgroups=True):
        async with connected(cluster, token="ccl_wrong", mode="2026-07-28") as client:
            await client.list_tools()


VERSION = {"protocolVersion": "2026-07-28", "clientCapabilities": {}}
