"""The AI SDK's door and what is wrong with a request: refused in words that help, and nothing is written."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import httpx
import pytest
from test_web_api import claim, fence_of, finish
from web_world import World, client_of, error_code

from chatcluster.chat import CallState, CommitStep, OpenCall
from chatcluster.parts import Message, NewMessage, Role, TextPart, ToolCallPart, ToolResultPart, text_of

Json = dict[str, Any]
ASKED = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}
CALLED = {
    "id": "a1",
    "role": "assistant",
    "parts": [{"type": "dynamic-tool", "toolCallId": "c1", "state": "output-available"}],
}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "id"),
        ({"id": "x"}, "send messages"),
        ({"id": "x", "messages": []}, "send messages"),
        ({"id": "", "message": ASKED}, "id of a chat"),
        ({"id": "a\nb", "message": ASKED}, "id of a chat"),
        ({"id": "x" * 201, "message": ASKED}, "id of a chat"),
        ({"id": "x", "messages": "hello"}, "messages"),
        ({"id": "x", "message": {**ASKED, "role": "system"}}, "the last message"),
        ({"id": "x", "message": {"role": "user"}}, "list of parts"),
        ({"id": "x", "message": {"role": "user", "parts": [1]}}, "list of parts"),
        ({"id": "x", "message": {"role": "user", "parts": []}}, "must not be empty"),
        ({"id": "x", "message": {"role": "user", "parts": [{"type": "audio"}]}}, "audio"),
        ({"id": "x", "message": {"role": "user", "parts": [{"type": "text", "text": "a\0"}]}}, "NUL"),
        ({"id": "x", "message": ASKED, "trigger": "resume"}, "trigger"),
        ({"id": "x", "message": ASKED, "onDisconnect": "stop"}, "onDisconnect"),
        ({"id": "x", "message": ASKED, "tools": [{"name": "a b"}]}, "name of a tool"),
        ({"id": "x", "message": CALLED}, "no such chat yet"),
        ({"id": "x", "messages": [ASKED] * 2001}, "at most"),
    ],
)
async def test_a_request_that_is_wrong_is_refused_and_writes_nothing(body: dict[str, Any], says: str) -> None:
    world = World()
    async with client_of(world) as client:
        before = world.written()
        answer = await client.post("/api/ai/chat", json=body)
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
        assert says in answer.json()["error"]["message"]
        assert world.written() == before


async def test_where_nothing_runs_there_is_nothing_to_resume_and_nothing_to_stop() -> None:
    world = World()
    async with client_of(world) as client:
        assert (await client.get("/api/ai/chat/unknown/stream")).status_code == 204
        for method, path in (("POST", "unknown/stop"), ("GET", "unknown")):
            answer = await client.request(method, f"/api/ai/chat/{path}")
            assert (answer.status_code, error_code(answer)) == (404, "chat_not_found")
        assert (await client.post("/api/ai/chat/unknown")).status_code == 404


async def test_p9_a_name_is_its_users_own() -> None:
    """Also where it is the ID of a chat that somebody else has."""
    world = World()
    async with client_of(world) as ada, world.client(await world.token("eve")) as eve:
        chat_id = (await ada.post("/api/v1/chats", json={"content": "a secret"})).json()["id"]
        assert (await ada.get(f"/api/ai/chat/{chat_id}")).json()["messages"][0]["parts"][0]["text"] == "a secret"
        assert (await eve.get(f"/api/ai/chat/{chat_id}/stream")).status_code == 204
        for method, path in (("POST", f"{chat_id}/stop"), ("GET", chat_id)):
            assert (await eve.request(method, f"/api/ai/chat/{path}")).status_code == 404


async def test_a_busy_chat_refuses_another_message() -> None:
    world = World()
    async with client_of(world) as client:
        chat_id = (await client.post("/api/v1/chats", json={"content": "hello"})).json()["id"]
        answer = await client.post("/api/ai/chat", json={"id": chat_id, "message": ASKED})
        assert (answer.status_code, error_code(answer)) == (409, "chat_busy")


def user(message_id: str, text: str) -> Json:
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}


async def submitted(client: httpx.AsyncClient, *messages: Json, **more: Any) -> None:
    async with client.stream("POST", "/api/ai/chat", json={"id": "x", "messages": messages, **more}) as answer:
        assert answer.status_code == 200, await answer.aread()


def history(world: World) -> list[Message]:
    *_, row = world.database.chats.values()
    return row.messages


def asked(world: World) -> list[str]:
    return [text_of(one.parts) for one in history(world) if one.role is Role.USER]


async def test_what_is_asked_again_is_known_by_the_answer_before_it_however_few_messages_are_sent() -> None:
    world = World()
    async with client_of(world) as client:
        for text in ("one", "two", "three"):
            await submitted(client, user(text, text))
            await finish(world)
        shown = (await client.get("/api/ai/chat/x")).json()["messages"]
        await submitted(client, shown[3], user("three", "three"), trigger="regenerate-message")
        assert asked(world) == ["one", "two", "three"]
        assert len(history(world)) == 5, "the last answer alone is gone"
        await finish(world)
        await submitted(client, shown[1], user("two", "TWO"), messageId="two")
        assert asked(world) == ["one", "TWO"]


async def test_p1_a_message_that_is_sent_again_as_itself_is_told_the_answer_that_it_began() -> None:
    """As ``sendMessage()`` does after a broken connection; what was changed, or is answered already, is asked anew."""
    world = World()
    async with client_of(world) as client:
        await submitted(client, user("one", "one"))
        before = world.written()
        await submitted(client, user("one", "one"), messageId="one")
        assert world.written() == before
        await submitted(client, user("one", "ONE"), messageId="one")
        assert asked(world) == ["ONE"]
        await finish(world)
        await submitted(client, user("one", "one"), messageId="one")
        assert (asked(world), len(history(world))) == (["one"], 1)


async def test_what_was_changed_before_it_is_asked_again_is_asked_as_it_is_now() -> None:
    """As pages do that have their messages edited: they change them, and then regenerate."""
    world = World()
    async with client_of(world) as client:
        await submitted(client, user("one", "one"))
        await finish(world)
        await submitted(client, user("one", "ONE"), trigger="regenerate-message")
        await finish(world)
        await submitted(client, user("two", "two"))
        await finish(world)
        shown = (await client.get("/api/ai/chat/x")).json()["messages"]
        await submitted(client, *shown[:2], user("two", "TWO"), trigger="regenerate-message")
        assert asked(world) == ["ONE", "TWO"]


async def test_what_is_asked_again_has_to_be_what_the_chat_has_there_unless_it_is_clear_which_it_is() -> None:
    """It would take away what the client does not know of."""
    world = World()
    async with client_of(world) as client:
        for text in ("one", "two"):
            await submitted(client, user(text, text))
            await finish(world)
        before = world.written()
        body = {"id": "x", "messages": [user("two", "two")], "trigger": "regenerate-message"}
        answer = await client.post("/api/ai/chat", json=body)
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
        assert "send all of them" in answer.json()["error"]["message"]
        assert world.written() == before


async def test_one_message_alone_is_asked_again_only_where_it_is_the_newest() -> None:
    """The same words may have been said before, and all that follows them would go."""
    world = World()
    async with client_of(world) as client:
        for number, text in enumerate(("go on", "no", "go on")):
            await submitted(client, user(f"m{number}", text))
            await finish(world)
        before = world.written()
        body = {"id": "x", "messages": [user("m2", "go on")], "trigger": "regenerate-message"}
        answer = await client.post("/api/ai/chat", json=body)
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
        assert world.written() == before
        all_of_it = [user("m0", "go on"), user("m1", "no"), user("m2", "go on")]
        await submitted(client, *all_of_it, trigger="regenerate-message")
        assert (asked(world), len(history(world))) == (["go on", "no", "go on"], 5)


async def test_what_was_edited_away_elsewhere_is_no_place_to_count_from() -> None:
    """Another tab went on; what it wrote is not taken away by one that does not know of it."""
    world = World()
    async with client_of(world) as client:
        for text in ("one", "two"):
            await submitted(client, user(text, text))
            await finish(world)
        stale = (await client.get("/api/ai/chat/x")).json()["messages"][:3]
        await submitted(client, user("ONE", "ONE"), messageId=stale[0]["id"])
        await finish(world)
        await submitted(client, user("three", "three"))
        await finish(world)
        body = {"id": "x", "messages": stale, "trigger": "regenerate-message"}
        assert error_code(await client.post("/api/ai/chat", json=body)) == "invalid_request"
        assert asked(world) == ["ONE", "three"]


async def test_messages_that_came_from_another_chat_have_their_places_in_this_one() -> None:
    """As in an application that branches: it begins a chat with what it has of another."""
    world = World()
    async with client_of(world) as client:
        for text in ("one", "two"):
            await submitted(client, user(text, text))
            await finish(world)
        before = (await client.get("/api/ai/chat/x")).json()["messages"]
        sent = (*before, user("branch", "branch"))
        await submitted(client, *sent, id="y")
        await finish(world)
        await submitted(client, *sent, id="y", trigger="regenerate-message")
        assert asked(world) == ["one", "two", "branch"]


async def test_what_the_system_says_among_the_messages_is_the_prompt_of_the_chat() -> None:
    world = World()
    system = {"id": "s", "role": "system", "parts": [{"type": "text", "text": "Be kind."}]}
    async with client_of(world) as client:
        await submitted(client, system, user("m1", "one"))
        *_, row = world.database.chats.values()
        prompts = world.services().models.prompts
        assert await prompts.own(row.id) == "Be kind."
        await finish(world)
        await submitted(client, system, user("m2", "two"), instructions="Be brief.")
        assert await prompts.own(row.id) == "Be brief."
        await finish(world)
        await submitted(client, {"id": "s", "role": "system", "parts": []}, user("m3", "three"))
        assert await prompts.own(row.id) == "Be brief.", "nothing was said"
        assert asked(world) == ["one", "two", "three"]


async def test_a_message_brings_the_outputs_before_it_along() -> None:
    world = World()
    async with client_of(world) as client:
        await submitted(client, user("m1", "the weather?"), tools=[{"name": "ask"}])
        call, plan = ToolCallPart("c1", "ask", "{}"), OpenCall("c1", "ask", CallState.CLIENT)
        said = NewMessage(Role.ASSISTANT, (TextPart("Looking."), call), "tool_calls")
        await world.store.commit(fence_of(await claim(world)), CommitStep((said,), (plan,)))
        part = {"type": "dynamic-tool", "toolName": "ask", "toolCallId": "c1", "state": "output-available"}
        called = {"id": "a1", "role": "assistant", "parts": [{**part, "output": "12 degrees"}]}
        refused = {"id": "x", "messages": [user("m1", "the weather?"), user("m2", "well?")]}
        assert error_code(await client.post("/api/ai/chat", json=refused)) == "chat_busy"
        sent = (user("m1", "the weather?"), called, user("m2", "well?"))
        await submitted(client, *sent)
        await submitted(client, *sent)
        assert [str(one.role) for one in history(world)] == ["user", "assistant", "tool", "user"]
        await finish(world)
        shown = (await client.get("/api/ai/chat/x")).json()["messages"]
        assert [one["role"] for one in shown] == ["user", "assistant", "user", "assistant"]


async def test_outputs_that_a_message_brings_along_are_whole() -> None:
    """What looks like a file was taken out of the body as it came."""
    world = World()
    async with client_of(world) as client:
        await submitted(client, user("m1", "what is there?"), tools=[{"name": "ask"}])
        call, plan = ToolCallPart("c1", "ask", "{}"), OpenCall("c1", "ask", CallState.CLIENT)
        said = NewMessage(Role.ASSISTANT, (call,), "tool_calls")
        await world.store.commit(fence_of(await claim(world)), CommitStep((said,), (plan,)))
        data = "data:text/plain;base64," + b64encode(b"a line\n" * 2000).decode()
        part = {"type": "dynamic-tool", "toolName": "ask", "toolCallId": "c1", "state": "output-available"}
        called = {"id": "a1", "role": "assistant", "parts": [{**part, "output": {"data": data}}]}
        await submitted(client, user("m1", "what is there?"), called, user("m2", "well?"))
        (result,) = [part for one in history(world) for part in one.parts if isinstance(part, ToolResultPart)]
        assert data in result.text


async def test_p7_outputs_that_are_sent_again_run_no_call_that_was_answered_since() -> None:
    """The stream that they began broke off, and another tab answered the next call."""
    world = World()
    async with client_of(world) as client:
        await submitted(client, user("m1", "the weather?"), tools=[{"name": "ask"}])
        for call_id in ("c1", "c2"):
            call, plan = ToolCallPart(call_id, "ask", "{}"), OpenCall(call_id, "ask", CallState.CLIENT)
            said = NewMessage(Role.ASSISTANT, (call,), "tool_calls")
            await world.store.commit(fence_of(await claim(world)), CommitStep((said,), (plan,)))
            part = {"type": "dynamic-tool", "toolName": "ask", "toolCallId": call_id, "state": "output-available"}
            answered = {"id": "a1", "role": "assistant", "parts": [{**part, "output": "12 degrees"}]}
            if call_id == "c1":
                first = answered
                await submitted(client, user("m1", "the weather?"), answered)
                continue
            told = await read(client, user("m1", "the weather?"), first)
            runs = [chunk for chunk in told if chunk["type"] == "tool-input-available"]
            assert [chunk["toolCallId"] for chunk in runs] == ["c2"], "it waits, and the client did not know of it"
            assert told[-1]["type"] == "finish"
            await submitted(client, user("m1", "the weather?"), answered)
        await finish(world)
        told = await read(client, user("m1", "the weather?"), first)
        kinds = [chunk["type"] for chunk in told if chunk.get("toolCallId") == "c2"]
        assert kinds == ["tool-input-start", "tool-input-delta", "tool-output-available"]


async def read(client: httpx.AsyncClient, *messages: Json) -> list[Json]:
    """The chunks of a stream that ends."""
    answer = await client.post("/api/ai/chat", json={"id": "x", "messages": messages})
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return list(map(json.loads, lines))
