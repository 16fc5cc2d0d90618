"""Requests at `/v1` that are right, and that few clients send: each has the answer that its client expects."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from test_web_api import claim, fence_of, finish
from web_world import World, client_of, error_code, serving

from chatcluster.chat import CallState, CommitStep, ErrorInfo, Fail, FinishTurn, OpenCall
from chatcluster.parts import NewMessage, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart, text_of
from chatcluster.web.doors import door_stream

Json = dict[str, Any]
CALLED = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
SILENT: list[Json] = [
    {"role": "assistant", "content": "", "tool_calls": CALLED},
    {"role": "assistant", "content": " ", "tool_calls": CALLED},
    {"role": "assistant", "content": [{"type": "text", "text": ""}], "tool_calls": CALLED},
    {"role": "assistant", "content": None, "tool_calls": CALLED},
]


async def responded(world: World, client: httpx.AsyncClient, text: Any, **more: Any) -> Json:
    """A response that is over, whose answer says that it thought."""
    made = await client.post("/v1/responses", json={"input": text, "background": True, **more})
    assert made.status_code == 200, made.text
    thought = (ReasoningPart("hm"), TextPart("an answer"))
    done = FinishTurn((NewMessage(Role.ASSISTANT, thought, "stop"),))
    await world.store.commit(fence_of(await claim(world)), done)
    told: Json = (await client.get(f"/v1/responses/{made.json()['id']}")).json()
    return told


def said(world: World) -> list[tuple[str, str]]:
    """What the newest chat has."""
    *_, row = world.database.chats.values()
    return [(str(one.role), text_of(one.parts)) for one in row.messages]


async def test_items_that_were_said_here_may_be_named_in_the_place_of_being_sent() -> None:
    """As the OpenAI provider of the AI SDK does with what a server stores."""
    world = World()
    async with client_of(world) as client:
        first = await responded(world, client, "one")
        named = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
        assert len(named) == 2
        history = [{"role": "user", "content": "one"}, *named, {"role": "user", "content": "two"}]
        second = await responded(world, client, history)
        assert said(world) == [("user", "one"), ("assistant", "an answer"), ("user", "two"), ("assistant", "an answer")]
        assert second["status"] == "completed"
        assert len((await client.get(f"/v1/responses/{second['id']}/input_items")).json()["data"]) == 3


async def test_p9_what_somebody_else_was_told_or_is_forgotten_cannot_be_named() -> None:
    world = World()
    async with client_of(world) as ada, world.client(await world.token("eve")) as eve:
        first = await responded(world, ada, "one")
        asked = {"input": [{"type": "item_reference", "id": first["output"][-1]["id"]}], "background": True}
        before = world.written()
        refused = await eve.post("/v1/responses", json=asked)
        assert (refused.status_code, error_code(refused)) == (404, "item_not_found")
        await ada.delete(f"/v1/responses/{first['id']}")
        refused = await ada.post("/v1/responses", json=asked)
        assert (refused.status_code, error_code(refused)) == (404, "item_not_found")
        assert world.written() == before


@pytest.mark.parametrize("silent", SILENT, ids=["empty", "blank", "empty part", "null"])
async def test_a_model_that_only_called_said_nothing(silent: Json) -> None:
    world = World()
    output = {"role": "tool", "tool_call_id": "c1", "content": "seen"}
    async with client_of(world) as client:
        items = [{"role": "user", "content": "hello"}, silent, output]
        tools = [{"type": "function", "function": {"name": "look"}}]
        body = {"messages": items, "tools": tools, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.status_code == 200
        assert [role for role, _ in said(world)] == ["user", "assistant", "tool"]


async def test_parts_of_answers_that_there_are_not_here_may_be_asked_for() -> None:
    world = World()
    async with client_of(world) as client:
        made = (await client.post("/v1/conversations", json={"items": [{"role": "user", "content": "hi"}]})).json()
        told = await responded(world, client, "one")
        items = f"/v1/conversations/{made['id']}/items"
        (item,) = (await client.get(items)).json()["data"]
        paths = (
            f"/v1/responses/{told['id']}",
            f"/v1/responses/{told['id']}/input_items",
            items,
            f"{items}/{item['id']}",
        )
        for path in paths:
            query = "include[]=a&include[]=b&include_obfuscation=false"
            assert (await client.get(f"{path}?{query}")).status_code == 200, path


async def test_a_response_goes_on_from_one_that_failed() -> None:
    world = World()
    async with client_of(world) as client:
        first = (await client.post("/v1/responses", json={"input": "one", "background": True})).json()
        await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo("auth", "the key is wrong")))
        failed = (await client.get(f"/v1/responses/{first['id']}")).json()
        assert (failed["status"], failed["error"]["message"]) == ("failed", "the key is wrong")
        await responded(world, client, "two", previous_response_id=first["id"])
        assert said(world) == [("user", "one"), ("user", "two"), ("assistant", "an answer")]
        assert (await client.get(f"/v1/responses/{first['id']}")).json()["status"] == "failed", "as it was told"


async def test_pages_of_items_go_both_ways_and_end() -> None:
    world = World()
    async with client_of(world) as client:
        told = await responded(world, client, [{"role": "user", "content": f"{number}"} for number in range(3)])
        path = f"/v1/responses/{told['id']}/input_items"
        for order in ("asc", "desc"):
            seen: list[str] = []
            after = ""
            for _ in range(9):
                page = (await client.get(f"{path}?limit=1&order={order}{after}")).json()
                seen.extend(item["id"] for item in page["data"])
                if not page["has_more"]:
                    break
                after = f"&after={page['last_id']}"
            assert seen == [item["id"] for item in (await client.get(f"{path}?order={order}")).json()["data"]]


async def test_what_clients_of_this_api_know_and_this_server_does_not_is_refused_in_its_form() -> None:
    world = World()
    async with client_of(world) as client:
        made = (await client.post("/v1/conversations", json={})).json()
        for method, path in (
            ("DELETE", f"/v1/conversations/{made['id']}/items/msg_1"),
            ("GET", "/v1/chat/completions"),
            ("POST", "/v1/responses/compact"),
            ("POST", "/v1/embeddings"),
        ):
            refused = await client.request(method, path, json={})
            assert refused.status_code in (404, 405), (path, refused.status_code)
            assert set(refused.json()["error"]) >= {"message", "type", "param", "code"}


async def test_names_are_their_own_whatever_they_are_made_of() -> None:
    """As what a chat is called at the other doors: characters that mean something in addresses, and long ones."""
    world = World()
    async with client_of(world) as client:
        for name in ("a/b", "a?b#c", "100%", "\u00e9\U0001f600", "x" * 200, "stream"):
            message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": name}]}
            async with client.stream("POST", "/api/ai/chat", json={"id": name, "message": message}) as answer:
                assert answer.status_code == 200
            await finish(world)
            told = await client.get(f"/api/ai/chat/{quote(name, safe='')}")
            assert told.status_code == 200, name
            assert told.json()["messages"][0]["parts"][0]["text"] == name


LOOK: Json = {"type": "function", "name": "look"}


async def test_a_message_beside_outputs_comes_behind_them() -> None:
    world = World()
    async with client_of(world) as client:
        asked = {"input": "look", "tools": [LOOK], "background": True}
        first = (await client.post("/v1/responses", json=asked)).json()
        call, plan = ToolCallPart("c1", "look", "{}"), OpenCall("c1", "look", CallState.CLIENT)
        said_first = NewMessage(Role.ASSISTANT, (call,), "tool_calls")
        await world.store.commit(fence_of(await claim(world)), CommitStep((said_first,), (plan,)))
        output = {"type": "function_call_output", "call_id": "c1", "output": "a tree"}
        message = {"role": "user", "content": "which one?"}
        second = await responded(world, client, [message, output], previous_response_id=first["id"])
        assert [role for role, _ in said(world)] == ["user", "assistant", "tool", "user", "assistant"]
        assert (second["status"], len(second["output"])) == ("completed", 2)
        given = (await client.get(f"/v1/responses/{second['id']}/input_items?order=asc")).json()["data"]
        assert [item["type"] for item in given] == ["function_call_output", "message"]
        await responded(world, client, "and now?", previous_response_id=second["id"])
        assert len(world.database.chats) == 1, "it was the last turn of its chat"


@pytest.mark.parametrize(("code", "status"), [("auth", 500), ("rate_limit", 429)])
async def test_a_completion_that_fails_later_has_the_status_of_an_error_all_the_same(
    code: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_stream, "SOON_SECONDS", 0.0)
    world = World(feed_poll_seconds=0.05)
    async with serving(world), world.client(await world.token()) as client, trio.open_nursery() as nursery:
        answers: list[httpx.Response] = []

        async def ask() -> None:
            body = {"messages": [{"role": "user", "content": "hello"}]}
            answers.append(await client.post("/v1/chat/completions", json=body))

        nursery.start_soon(ask)
        with trio.fail_after(10):
            while not any(row.state.claimable for row in world.database.chats.values()):  # noqa: ASYNC110
                await trio.sleep(0.01)
        await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo(code, "it failed")))
    (answer,) = answers
    assert (answer.status_code, error_code(answer)) == (status, code)


async def test_what_was_stored_stays_when_a_response_goes_on_from_it_that_is_not() -> None:
    """P1: a chat that is there for answers alone that nobody stores is deleted after a while."""
    world = World()
    async with client_of(world) as client:
        first = await responded(world, client, "one")
        asked = {"input": "two", "previous_response_id": first["id"], "store": False}
        async with client.stream("POST", "/v1/responses", json={**asked, "stream": True}) as answer:
            assert answer.status_code == 200
        await finish(world)
        assert said(world) == [("user", "one"), ("assistant", "an answer"), ("user", "two"), ("assistant", "hi")]
        assert len(world.database.chats) == 2
        third = await responded(world, client, "three", previous_response_id=first["id"])
        assert third["chat_id"] == first["chat_id"]
        rows = world.logs.responses._rows.items()  # type: ignore[attr-defined]
        assert {str(chat_id) for (chat_id, _), row in rows if not row.transient} == {first["chat_id"]}


async def test_the_input_of_a_response_that_goes_on_in_a_copy_is_its_own() -> None:
    world = World()
    async with client_of(world) as client:
        first = await responded(world, client, "one")
        await responded(world, client, "two", previous_response_id=first["id"])
        fork = await responded(world, client, "three", previous_response_id=first["id"])
        assert fork["chat_id"] != first["chat_id"]
        (given,) = (await client.get(f"/v1/responses/{fork['id']}/input_items")).json()["data"]
        assert given["content"] == [{"type": "input_text", "text": "three"}]


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ({"output": "sent"}, "sent"),
        ({"error": "no such box"}, "no such box"),
        ({"error": {"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "full"}]}}, "full"),
        ({"error": {"type": "http_error", "code": 502, "message": "bad gateway"}}, "bad gateway"),
        ({"error": {"odd": True}}, '{"odd":true}'),
    ],
)
async def test_calls_of_servers_tools_come_back_with_what_became_of_them(outcome: Json, text: str) -> None:
    world = World()
    call = {"type": "mcp_call", "id": "m1", "server_label": "mail", "name": "send", "arguments": "{}", **outcome}
    async with client_of(world) as client:
        made = await client.post("/v1/conversations", json={"items": [call]})
        assert made.status_code == 200, made.text
        *_, row = world.database.chats.values()
        (result,) = row.messages[-1].parts
        assert isinstance(result, ToolResultPart)
        assert (result.text, result.is_error) == (text, "error" in outcome)
        nul = await client.post("/v1/conversations", json={"items": [{**call, "output": "a\0", "error": None}]})
        assert (nul.status_code, error_code(nul)) == (400, "invalid_request")
