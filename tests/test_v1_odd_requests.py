"""Requests at `/v1` that are right, and that few clients send: each has the answer that its client expects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
import trio
import trio.testing
from test_web_api import claim, fence_of, finish
from web_world import World, client_of, error_code, serving

from chatcluster.chat import CallState, CommitStep, ErrorInfo, Fail, FinishTurn, OpenCall
from chatcluster.models import Kind, ModelEntry, Provider
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


@asynccontextmanager
async def completing(world: World) -> AsyncIterator[list[httpx.Response | Exception]]:
    """A completion that is asked for, and nobody has answered yet: what comes of it, once the block is left."""
    answers: list[httpx.Response | Exception] = []
    async with serving(world), world.client(await world.token()) as client, trio.open_nursery() as nursery:

        async def ask() -> None:
            try:
                body = {"messages": [{"role": "user", "content": "hello"}]}
                answers.append(await client.post("/v1/chat/completions", json=body))
            except httpx.TransportError as error:
                answers.append(error)

        nursery.start_soon(ask)
        with trio.fail_after(60):
            while not any(row.state.claimable for row in world.database.chats.values()):  # noqa: ASYNC110
                await trio.sleep(0.01)
        yield answers


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [("auth", 500, "auth"), ("rate_limit", 429, "rate_limit"), ("usage_limit", 429, "insufficient_quota")],
)
async def test_a_completion_that_fails_later_has_the_status_of_an_error_all_the_same(
    code: str, status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_stream, "SOON_SECONDS", 0.0)
    world = World(feed_poll_seconds=0.05)
    async with completing(world) as answers:
        await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo(code, "it failed")))
    (answer,) = answers
    assert isinstance(answer, httpx.Response)
    assert (answer.status_code, error_code(answer)) == (status, told)
    assert ("x-should-retry" in answer.headers) == (told == "insufficient_quota")


async def test_one_that_fails_when_its_head_is_sent_is_broken_off_so_nobody_takes_it_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_stream, "SOON_SECONDS", 0.0)
    monkeypatch.setattr(door_stream, "HEAD_SECONDS", 0.0)
    world = World(feed_poll_seconds=0.05)
    async with completing(world) as answers:
        await trio.testing.wait_all_tasks_blocked()
        await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo("auth", "it failed")))
    (broken,) = answers
    assert isinstance(broken, httpx.RemoteProtocolError)


async def test_one_whose_replica_leaves_before_its_head_is_sent_is_to_be_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door_stream, "SOON_SECONDS", 0.0)
    world = World(feed_poll_seconds=0.05)
    async with completing(world) as answers:
        await trio.testing.wait_all_tasks_blocked()
        world.real_feeds.cut_all()
    (answer,) = answers
    assert isinstance(answer, httpx.Response)
    assert (answer.status_code, error_code(answer), answer.headers["retry-after"]) == (503, "store_unavailable", "1")


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


async def asked_to_look(world: World, client: httpx.AsyncClient) -> Json:
    """A response that has ended with a call of the client's function."""
    asked = {"input": "look", "tools": [LOOK], "background": True}
    first: Json = (await client.post("/v1/responses", json=asked)).json()
    call, plan = ToolCallPart("c1", "look", "{}"), OpenCall("c1", "look", CallState.CLIENT)
    said_first = NewMessage(Role.ASSISTANT, (call,), "tool_calls")
    await world.store.commit(fence_of(await claim(world)), CommitStep((said_first,), (plan,)))
    return first


def output(text: str, call_id: str = "c1") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


async def test_other_outputs_of_the_same_calls_begin_another_answer_and_the_same_ones_are_a_repeat() -> None:
    """A program whose connection broke gives its outputs again; one that tries another way gives others."""
    world = World()
    async with client_of(world) as client:
        first = await asked_to_look(world, client)
        past = {"previous_response_id": first["id"], "tools": [LOOK]}
        second = await responded(world, client, [output("a tree")], **past)
        body = {"input": [output("a tree")], **past, "background": True}
        again = (await client.post("/v1/responses", json=body)).json()
        assert again["id"] == second["id"]
        assert (await client.get(f"/v1/responses/{again['id']}")).json()["output"] == second["output"]
        other = await responded(world, client, [output("a house"), {"role": "user", "content": "sure?"}], **past)
        assert other["chat_id"] != first["chat_id"]
        results = [
            part.text
            for _, row in world.database.chats.items()
            for one in row.messages
            for part in one.parts
            if isinstance(part, ToolResultPart)
        ]
        assert results == ["a tree", "a house"]
        assert [role for role, _ in said(world)] == ["user", "assistant", "tool", "user", "assistant"]
        third = await responded(world, client, "and now?", previous_response_id=second["id"])
        assert third["chat_id"] == first["chat_id"], "nothing happened to what was gone on from before"


@pytest.mark.parametrize("more", [[], [{"role": "user", "content": "well?"}]], ids=["alone", "with a message"])
async def test_outputs_of_several_calls_are_a_repeat_only_where_all_that_was_given_is_given(more: list[Json]) -> None:
    world = World()
    async with client_of(world) as client:
        asked = {"input": "look", "tools": [LOOK], "background": True}
        first = (await client.post("/v1/responses", json=asked)).json()
        calls = tuple(ToolCallPart(call_id, "look", "{}") for call_id in ("c1", "c2"))
        plans = tuple(OpenCall(call.id, "look", CallState.CLIENT) for call in calls)
        step = CommitStep((NewMessage(Role.ASSISTANT, calls, "tool_calls"),), plans)
        await world.store.commit(fence_of(await claim(world)), step)
        past, outputs = {"previous_response_id": first["id"]}, [output("a tree"), output("a house", "c2")]
        second = await responded(world, client, [*outputs, *more], **past)
        body = {"input": outputs, **past, "background": True}
        again = (await client.post("/v1/responses", json=body)).json()
        assert (again["id"] == second["id"], again["chat_id"] == first["chat_id"]) == (not more, not more)


async def test_who_brings_outputs_need_not_name_the_tools_again_to_be_called() -> None:
    world = World()
    async with client_of(world) as client:
        first = await asked_to_look(world, client)
        body = {"input": [output("a tree")], "previous_response_id": first["id"], "background": True}
        second = (await client.post("/v1/responses", json=body)).json()
        call, plan = ToolCallPart("c2", "look", "{}"), OpenCall("c2", "look", CallState.CLIENT)
        step = CommitStep((NewMessage(Role.ASSISTANT, (call,), "tool_calls"),), (plan,))
        await world.store.commit(fence_of(await claim(world)), step)
        told = (await client.get(f"/v1/responses/{second['id']}")).json()
        assert [(item["type"], item["name"]) for item in told["output"]] == [("function_call", "look")]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([{"role": "user", "content": "hi"}, output("x")], "No tool call found for function call output"),
        ([output("x")], "has to end with something to answer"),
    ],
)
async def test_outputs_of_calls_that_there_are_not_are_refused(items: list[Json], says: str) -> None:
    world = World()
    async with client_of(world) as client:
        before = world.written()
        refused = await client.post("/v1/responses", json={"input": items})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
        assert says in refused.json()["error"]["message"]
        assert world.written() == before
        first = await responded(world, client, "one")
        refused = await client.post("/v1/responses", json={"input": [output("x")], "previous_response_id": first["id"]})
        assert refused.status_code in (400, 409), refused.text


async def test_what_somebody_steered_into_a_turn_is_gone_on_from_with_it() -> None:
    world = World()
    async with client_of(world) as client:
        first = (await client.post("/v1/responses", json={"input": "one", "background": True})).json()
        path = f"/api/v1/chats/{first['chat_id']}/messages"
        call, plan = ToolCallPart("c1", "x__look", "{}"), OpenCall("c1", "x__look", CallState.PENDING)
        claimed, store = await claim(world), world.store
        step = CommitStep((NewMessage(Role.ASSISTANT, (call,), "tool_calls"),), (plan,))
        claimed = msgspec.structs.replace(claimed, chat=(await store.commit(fence_of(claimed), step)).chat)
        assert (await client.post(path, json={"content": "and hurry", "busy": "steer"})).status_code == 202
        results = CommitStep((NewMessage(Role.TOOL, (ToolResultPart("c1", "a tree"),)),))
        claimed = msgspec.structs.replace(claimed, chat=(await store.commit(fence_of(claimed), results)).chat)
        done = FinishTurn((NewMessage(Role.ASSISTANT, (TextPart("a tree"),), "stop"),))
        await store.commit(fence_of(claimed), done)
        assert [role for role, _ in said(world)] == ["user", "assistant", "tool", "user", "assistant"]
        second = await responded(world, client, "two", previous_response_id=first["id"])
        assert second["chat_id"] == first["chat_id"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/responses", {"input": 5}, "input"),
        ("/v1/responses", {"input": " "}, "input"),
        ("/v1/responses", {"input": []}, "input"),
        ("/v1/responses", {"input": "a", "model": "nope"}, "model"),
        ("/v1/responses", {"input": "a", "metadata": {"a": 1}}, "metadata"),
        ("/v1/responses", {"input": "a", "instructions": "\0"}, "instructions"),
        ("/v1/responses", {"input": "a", "temperature": "hot"}, "temperature"),
        ("/v1/responses", {"input": "a", "temperature": 3}, "temperature"),
        ("/v1/responses", {"input": "a", "top_p": 1.5}, "top_p"),
        ("/v1/responses", {"input": "a", "max_output_tokens": 0}, "max_output_tokens"),
        ("/v1/responses", {"input": "a", "user": 5}, "user"),
        ("/v1/responses", {"input": "a", "include": "x"}, "include"),
        ("/v1/responses", {"input": "a", "conversation": {}}, "conversation"),
        ("/v1/responses", {"input": "a", "conversation": "conv_x"}, "conversation"),
        ("/v1/responses", {"input": "a", "previous_response_id": "resp_x"}, "previous_response_id"),
        ("/v1/responses", {"input": "a", "tools": [LOOK, LOOK]}, "tools"),
        ("/v1/responses", {"input": "a", "tools": [{"type": "mcp", "server_label": "A B"}]}, "tools"),
        ("/v1/responses", {"input": "a", "tool_choice": {"type": "function", "name": "look"}}, "tool_choice"),
        ("/v1/responses", {"input": "a", "text": {"format": {"type": "json_schema"}}}, "text.format"),
        ("/v1/chat/completions", {}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": " "}]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}]}, "messages"),
        ("/v1/chat/completions", {"messages": [5]}, "messages[0]"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "model": "nope"}, "model"),
    ],
)
async def test_what_is_refused_names_the_parameter(path: str, body: Json, param: str) -> None:
    world = World()
    async with client_of(world) as client:
        await world.models.add_provider(Provider(name="cloud", kind=Kind.OPENAI, base_url="http://127.0.0.1:9/v1"))
        await world.models.add_model(ModelEntry(name="large", provider="cloud", provider_model="large-1"))
        before = world.written()
        refused = await client.post(path, json=body)
        assert 400 <= refused.status_code < 500, refused.text
        assert refused.json()["error"]["param"] == param, refused.text
        assert world.written() == before


async def test_pages_of_no_size_name_the_parameter() -> None:
    world = World()
    async with client_of(world) as client:
        told = await responded(world, client, "one")
        for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=in_9"):
            refused = await client.get(f"/v1/responses/{told['id']}/input_items?{query}")
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, query.partition("=")[0]), query


async def test_what_tunes_an_answer_is_echoed_and_the_tier_is_the_one_that_there_is() -> None:
    tuned: Json = {"temperature": 0.5, "top_p": 0.5, "max_output_tokens": 16, "parallel_tool_calls": False}
    named = {"truncation": "auto", "user": "u", "prompt_cache_key": "k", "safety_identifier": "s"}
    async with client_of(World()) as client:
        body = {"input": "a", "background": True, "service_tier": "flex", "include": ["x"], **tuned, **named}
        told = (await client.post("/v1/responses", json=body)).json()
        assert {name: told[name] for name in (*tuned, *named)} == {**tuned, **named}
        assert told["service_tier"] == "default"


async def test_an_id_is_written_in_one_way_and_the_one_of_a_conversation_is_none_of_a_response() -> None:
    world = World()
    async with client_of(world) as client:
        made = (await client.post("/v1/conversations", json={"metadata": {"a": "b"}})).json()
        told = await responded(world, client, "one", conversation=made["id"])
        chat = made["id"].removeprefix("conv_")
        for name in (f"resp_{chat}0", f"resp_{chat}0{told['id'].removeprefix('resp_' + chat)}"):
            for method in ("GET", "DELETE"):
                assert (await client.request(method, f"/v1/responses/{name}")).status_code == 404
            refused = await client.post("/v1/responses", json={"input": "a", "previous_response_id": name})
            assert (refused.status_code, error_code(refused)) == (404, "response_not_found")
        kept = (await client.get(f"/v1/conversations/{made['id']}")).json()
        assert kept["metadata"] == {"a": "b"}
        changed = {"metadata": {"c": "d"}}
        assert (await client.post(f"/v1/conversations/{made['id']}", json=changed)).json()["metadata"] == {"c": "d"}
        assert (await client.get(f"/v1/conversations/{made['id']}")).json()["metadata"] == {"c": "d"}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/responses", "below /v1"),
        ("/chat/completions", "below /v1"),
        ("//v1/responses", "input"),
        ("/v1//responses/", "input"),
        ("//v1/embeddings", "nothing at this address"),
    ],
)
async def test_a_base_url_that_is_wrong_or_has_a_slash_too_many_is_answered_in_words_for_its_client(
    path: str, says: str
) -> None:
    world = World()
    async with client_of(world) as client:
        refused = await client.send(client.build_request("POST", f"{world.url}{path}", json={"input": 5}))
        assert refused.status_code in (400, 404), refused.text
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
        assert says in refused.json()["error"]["message"]
