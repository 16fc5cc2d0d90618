"""A call whose user has to sign in first, at every door: the client is told what to do where, and the turn goes on when
that is done, at whatever replica it is asked for by then (P4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import msgspec
import pytest
import trio
from door_errors import call
from test_web_api import claim, fence_of
from web_world import World, connect, read_until, serving

from chatcluster.chat import AwaitSignIn, CallState, CommitStep, FinishTurn, OpenCall
from chatcluster.parts import NewMessage, Role, TextPart, ToolCallPart, ToolResultPart
from chatcluster.ports import Claimed, Grant, McpServer, McpSettings, OAuthAuth

Json = dict[str, Any]
TOOL = "mail__send"
WHERE = "/api/v1/me/mcp-servers/mail/login"
ASKED = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
RUN: Json = {"runId": "r", "messages": [{"id": "m", "role": "user", "content": "hello"}], "tools": [], "context": []}


class Replicas(NamedTuple):
    """Two, at one database."""

    one: World
    other: World
    token: str

    async def asked(self, world: World, method: str, path: str, body: Json | None = None) -> trio.SocketStream:
        """A request whose answer goes on."""
        content = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n"
        stream = await connect(world.url)
        await stream.send_all(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        return stream

    async def not_let_in(self) -> None:
        """Work on the only chat until its call is refused."""
        with trio.fail_after(60):
            while not any(row.state.claimable for row in self.one.database.chats.values()):  # noqa: ASYNC110
                await trio.sleep(0.01)
        claimed = await claim(self.one)
        said = NewMessage(Role.ASSISTANT, (TextPart("Looking. "), ToolCallPart("c1", TOOL, "{}")), "tool_calls")
        begun = OpenCall("c1", TOOL, CallState.STARTED, started_epoch=claimed.chat.epoch)
        step = await self.one.store.commit(fence_of(claimed), CommitStep((said,), (begun,)))
        await self.one.store.commit(fence_of(Claimed(step.chat)), AwaitSignIn(("c1",), 600.0))

    async def signed_in(self) -> None:
        """Let the user in, and end the turn."""
        account = await self.one.accounts.ensure_user("ada", admin=False)
        server = McpServer(id=uuid4(), slug="mail", settings=McpSettings(url="http://127.0.0.1/", auth=OAuthAuth()))
        await self.one.mcp_servers.add(server)
        await self.one.mcp_servers.keep_grant(Grant(server_id=server.id, user_id=account.user_id, sealed=b"tokens"))
        await self.other.services().mcp.sign_ins.let_in(account.user_id)
        sent = NewMessage(Role.TOOL, (ToolResultPart("c1", "sent"),))
        step = await self.one.store.commit(fence_of(await claim(self.one)), CommitStep((sent,)))
        done = NewMessage(Role.ASSISTANT, (TextPart("It is sent."),), "stop")
        await self.one.store.commit(fence_of(Claimed(step.chat)), FinishTurn((done,)))


@pytest.fixture
async def replicas() -> AsyncIterator[Replicas]:
    one = World(feed_poll_seconds=0.05)
    other = World(None, one.database, feed_poll_seconds=0.05)
    async with serving(one), serving(other):
        yield Replicas(one, other, await one.token("ada"))


@pytest.fixture
async def client(replicas: Replicas) -> AsyncIterator[httpx.AsyncClient]:
    async with replicas.one.client(replicas.token) as client:
        yield client


@pytest.fixture
async def elsewhere(replicas: Replicas) -> AsyncIterator[httpx.AsyncClient]:
    """At the other replica."""
    async with replicas.other.client(replicas.token) as client:
        yield client


async def test_a_response_ends_and_says_where_to_sign_in_and_the_next_one_tells_the_rest(
    replicas: Replicas, client: httpx.AsyncClient, elsewhere: httpx.AsyncClient
) -> None:
    made = (await client.post("/v1/responses", json={"input": "hello", "background": True})).json()
    await replicas.not_let_in()
    path = f"/v1/responses/{made['id']}"
    told = (await client.get(path)).json()
    assert (told["status"], told["incomplete_details"]["reason"]) == ("incomplete", "action_required")
    assert f"POST {WHERE}" in told["incomplete_details"]["message"]
    events = (await client.get(f"{path}?stream=true")).text
    assert "event: response.incomplete" in events
    await replicas.signed_in()
    assert (await elsewhere.get(path)).json() == told, "what was told stands"
    last = events.count("event: ") - 1
    for number in (0, last // 2, last - 1):
        rest = (await elsewhere.get(f"{path}?stream=true&starting_after={number}")).text
        assert rest.count("event: ") == last - number
        assert events.endswith(rest.removeprefix(": open\n"))
    asked = {"previous_response_id": made["id"], "input": []}
    gone_on = (await elsewhere.post("/v1/responses", json=asked)).json()
    assert gone_on["status"] == "completed"
    called, said = gone_on["output"]
    assert (called["type"], called["name"], called["output"]) == ("mcp_call", "send", "sent")
    assert said["content"][0]["text"] == "It is sent."


async def test_a_completion_ends_in_an_error_that_says_where_and_its_repeat_has_the_answer(
    replicas: Replicas, client: httpx.AsyncClient, elsewhere: httpx.AsyncClient
) -> None:
    asked: Json = {"json": {"messages": [{"role": "user", "content": "hello"}]}, "headers": {"Idempotency-Key": "k"}}
    answers: list[httpx.Response] = []

    async def post() -> None:
        answers.append(await client.post("/v1/chat/completions", **asked))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(post)
        await replicas.not_let_in()
    error = answers[0].json()["error"]
    assert error["code"] == "action_required"
    assert f"POST {WHERE}" in error["message"]
    await replicas.signed_in()
    answer = (await elsewhere.post("/v1/chat/completions", **asked)).json()
    assert answer["choices"][0]["message"]["content"] == "Looking. It is sent."


@pytest.mark.parametrize("door", ["ai-sdk", "ag-ui"])
async def test_a_stream_says_where_stays_open_and_goes_on_also_for_those_who_come_back_elsewhere(
    replicas: Replicas, door: str
) -> None:
    doors: dict[str, tuple[str, Json, tuple[str, str, Json | None], bytes]] = {
        "ai-sdk": (
            "/api/ai/chat",
            {"id": "mail", "message": ASKED},
            ("GET", "/api/ai/chat/mail/stream", None),
            b'"type":"finish"',
        ),
        "ag-ui": (
            "/api/agui",
            {"threadId": "mail", **RUN},
            ("POST", "/api/agui", {"threadId": "mail", **RUN}),
            b'"type":"RUN_FINISHED"',
        ),
    }
    path, body, again, end = doors[door]
    async with await replicas.asked(replicas.one, "POST", path, body) as stream:
        await replicas.not_let_in()
        with trio.fail_after(60):
            waits = await read_until(stream, b"signInAt")
            assert b'"server":"mail"' in waits
            async with await replicas.asked(replicas.other, *again) as back:
                assert WHERE.encode() in await read_until(back, WHERE.encode())
                await replicas.signed_in()
                for one in (stream, back):
                    assert b'"sent"' in await read_until(one, end)


async def test_a_wait_of_the_mcp_server_says_what_the_user_has_to_do(
    replicas: Replicas, client: httpx.AsyncClient, elsewhere: httpx.AsyncClient
) -> None:
    async def called(client: httpx.AsyncClient, tool: str, **arguments: Any) -> Json:
        accept = {"Accept": "application/json, text/event-stream"}
        answer = (await client.post("/mcp", json=call(tool, **arguments), headers=accept)).json()
        told: Json = answer["result"]["structuredContent"]
        return told

    made = await called(client, "chat_create", content="hello")
    await replicas.not_let_in()
    waited = await called(client, "chat_wait", chat_id=made["chat_id"], cursor=made["cursor"])
    assert [(one["kind"], one["name"]) for one in waited["actions"]] == [("sign_in", TOOL)]
    assert f"POST {WHERE}" in waited["next"]
    await replicas.signed_in()
    done = await called(elsewhere, "chat_wait", chat_id=made["chat_id"], cursor=waited["cursor"])
    assert (done["status"], done["text"]) == ("waiting", "It is sent.")
