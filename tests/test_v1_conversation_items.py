"""Items of conversations at `/v1`: what is created is history that nobody answers, what is deleted is a message."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest
from test_web_api import claim, fence_of
from web_world import World, client_of, error_code

from chatcluster.chat import ErrorInfo, Fail, FinishTurn
from chatcluster.parts import NewMessage, ReasoningPart, Role, TextPart, text_of

Json = dict[str, Any]
HELLO = {"role": "user", "content": "hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}


async def conversation(client: httpx.AsyncClient, *items: Json) -> str:
    return str((await client.post("/v1/conversations", json={"items": list(items)})).json()["id"])


async def added(client: httpx.AsyncClient, name: str, *items: Json, **headers: str) -> httpx.Response:
    return await client.post(f"/v1/conversations/{name}/items", json={"items": list(items)}, headers=headers)


async def listed(client: httpx.AsyncClient, name: str) -> list[Json]:
    return list((await client.get(f"/v1/conversations/{name}/items?order=asc")).json()["data"])


def said(world: World) -> list[tuple[str, str]]:
    *_, row = world.database.chats.values()
    return [(str(one.role), text_of(one.parts)) for one in row.messages]


async def answered(world: World, client: httpx.AsyncClient, name: str, *parts: Any) -> Json:
    body = {"input": "and now?", "conversation": name, "background": True}
    made = await client.post("/v1/responses", json=body)
    assert made.status_code == 200, made.text
    done = FinishTurn((NewMessage(Role.ASSISTANT, parts or (TextPart("an answer"),), "stop"),))
    await world.store.commit(fence_of(await claim(world)), done)
    return dict((await client.get(f"/v1/responses/{made.json()['id']}")).json())


async def test_what_is_created_is_told_with_its_ids_and_answered_by_nobody() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(client)
        made = (await added(client, name, HELLO, {"role": "user", "content": "more"}, CALL, OUTPUT)).json()
        assert [item["type"] for item in made["data"]] == ["message"] * 2 + ["function_call", "function_call_output"]
        assert (made["object"], made["has_more"]) == ("list", False)
        assert (made["first_id"], made["last_id"]) == (made["data"][0]["id"], made["data"][-1]["id"])
        assert await listed(client, name) == made["data"]
        assert not any(row.state.runnable for row in world.database.chats.values())
        told = await answered(world, client, name)
        assert told["status"] == "completed"
        assert [role for role, _ in said(world)] == ["user", "user", "assistant", "tool", "user", "assistant"]


async def test_a_file_comes_within_an_item_as_it_does_within_a_conversation() -> None:
    url = f"data:text/plain;base64,{base64.b64encode(b'line of a text' * 70_000).decode()}"
    async with client_of(World()) as client:
        name = await conversation(client)
        file = {"type": "input_file", "filename": "a.txt", "file_data": url}
        made = await added(client, name, {"role": "user", "content": [file]})
        assert made.status_code == 200, made.text
        assert made.json()["data"][0]["content"][0]["filename"] == "a.txt"


async def test_each_item_that_says_something_is_one_and_goes_alone() -> None:
    async with client_of(World()) as client:
        name = await conversation(client)
        said = [{"role": "assistant", "content": text} for text in ("one", "two")]
        one, two = (await added(client, name, *said)).json()["data"]
        assert (await client.delete(f"/v1/conversations/{name}/items/{one['id']}")).status_code == 200
        assert await listed(client, name) == [two]


async def test_what_is_created_after_an_answer_is_no_part_of_it() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(client)
        first = await answered(world, client, name)
        await added(client, name, {"role": "assistant", "content": "by the way"}, {"role": "user", "content": "I see"})
        assert (await client.get(f"/v1/responses/{first['id']}")).json() == first
        second = await answered(world, client, name)
        assert second["output"][0]["content"][0]["text"] == "an answer"


async def test_p1_a_repeat_with_its_key_creates_nothing_again_and_is_told_the_same() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(client)
        first = await added(client, name, HELLO, **{"Idempotency-Key": "k"})
        again = await added(client, name, HELLO, **{"Idempotency-Key": "k"})
        assert first.json() == again.json()
        assert len(await listed(client, name)) == 1


async def test_what_is_deleted_is_gone_from_the_history_and_what_follows_stays() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(
            client, HELLO, {"role": "user", "content": "secret"}, {"role": "user", "content": "bye"}
        )
        secret = (await listed(client, name))[1]
        gone = await client.delete(f"/v1/conversations/{name}/items/{secret['id']}")
        assert (gone.status_code, gone.json()["id"], gone.json()["object"]) == (200, name, "conversation")
        assert [text for _, text in said(world)] == ["hello", "bye"]
        for method in ("GET", "DELETE"):
            again = await client.request(method, f"/v1/conversations/{name}/items/{secret['id']}")
            assert (again.status_code, error_code(again)) == (404, "item_not_found")


async def test_reasoning_goes_with_the_answer_that_it_led_to_and_calls_beside_a_text_stay_with_it() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(client)
        await answered(world, client, name, ReasoningPart("hm"), TextPart("an answer"))
        _, thought, text = await listed(client, name)
        path = f"/v1/conversations/{name}/items"
        refused = await client.delete(f"{path}/{thought['id']}")
        assert (refused.status_code, error_code(refused)) == (409, "item_not_separable")
        assert refused.headers["x-should-retry"] == "false"
        assert text["id"] in refused.json()["error"]["message"]
        assert (await client.delete(f"{path}/{text['id']}")).status_code == 200
        assert [item["type"] for item in await listed(client, name)] == ["message"]
        await added(client, name, {"role": "assistant", "content": "let me see"}, CALL, OUTPUT)
        *_, words, call, output = await listed(client, name)
        for item in (words, call):
            assert error_code(await client.delete(f"{path}/{item['id']}")) == "item_not_separable"
        assert (await client.delete(f"{path}/{output['id']}")).status_code == 200


async def test_a_busy_conversation_is_left_alone_and_one_that_failed_is_not() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(client, HELLO)
        (item,) = await listed(client, name)
        await client.post("/v1/responses", json={"input": "go", "conversation": name, "background": True})
        before = world.written()
        for refused in (
            await added(client, name, HELLO),
            await client.delete(f"/v1/conversations/{name}/items/{item['id']}"),
        ):
            assert (refused.status_code, error_code(refused)) == (409, "chat_busy")
            assert refused.headers["x-should-retry"] == "false"
        assert world.written() == before
        await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo("auth", "the key is wrong")))
        assert (await added(client, name, HELLO)).status_code == 200


async def test_what_is_no_history_is_refused_and_nothing_is_written() -> None:
    world = World()
    async with client_of(world) as client, world.client(await world.token("eve")) as eve:
        name = await conversation(client, HELLO)
        before = world.written()
        approval = {"type": "mcp_approval_response", "approval_request_id": "mcpr_c_0", "approve": True}
        for item in (approval, {"role": "developer", "content": "be kind"}, {"type": "reasoning", "summary": []}):
            refused = await added(client, name, item)
            assert (refused.status_code, error_code(refused)) == (400, "invalid_request"), item
            assert refused.json()["error"]["param"] == "items"
        assert error_code(await client.post("/v1/conversations", json={"items": [approval]})) == "invalid_request"
        (item,) = await listed(client, name)
        for refused in (
            await added(eve, name, HELLO),
            await eve.delete(f"/v1/conversations/{name}/items/{item['id']}"),
        ):
            assert (refused.status_code, error_code(refused)) == (404, "conversation_not_found")
        assert world.written() == before


async def paged(client: httpx.AsyncClient, name: str, order: str, limit: int) -> list[Json]:
    """All items, page by page."""
    items: list[Json] = []
    after, has_more = "", True
    while has_more:
        path = f"/v1/conversations/{name}/items?order={order}&limit={limit}{after}"
        page = (await client.get(path)).json()
        items.extend(page["data"])
        after, has_more = f"&after={page['last_id']}", page["has_more"]
        assert len(page["data"]) == limit or not has_more
    return items


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_of_a_conversation_have_all_of_it_in_either_order(limit: int) -> None:
    world = World()
    async with client_of(world) as client:
        texts = [{"role": "user", "content": f"text {number}"} for number in range(5)]
        name = await conversation(client, *texts, CALL, OUTPUT)
        await answered(world, client, name, ReasoningPart("hm"), TextPart("an answer"))
        forwards = await paged(client, name, "asc", limit)
        assert [item["type"] for item in forwards[5:]] == [
            *("function_call", "function_call_output", "message", "reasoning", "message")
        ]
        assert await paged(client, name, "desc", limit) == forwards[::-1]


async def test_who_deletes_what_a_page_ended_with_goes_on_behind_it() -> None:
    world = World()
    async with client_of(world) as client:
        name = await conversation(client, *({"role": "user", "content": f"text {number}"} for number in range(5)))
        path, deleted = f"/v1/conversations/{name}/items", 0
        page = (await client.get(f"{path}?limit=2")).json()
        while page["data"]:
            for item in page["data"]:
                deleted += (await client.delete(f"{path}/{item['id']}")).status_code == 200
            page = (await client.get(f"{path}?limit=2&after={page['last_id']}")).json()
        assert (deleted, await listed(client, name)) == (5, [])


async def test_who_deletes_what_a_response_said_goes_on_in_its_place() -> None:
    """By the ID that it had in the output of its response."""
    world = World()
    async with client_of(world) as client:
        name = await conversation(client)
        told = [await answered(world, client, name, TextPart(text)) for text in ("one", "two", "three")]
        middle = told[1]["output"][0]["id"]
        path = f"/v1/conversations/{name}/items"
        assert (await client.delete(f"{path}/{middle}")).status_code == 200
        for order, texts in (("asc", ["user", "assistant"]), ("desc", ["user", "assistant", "user"])):
            page = await client.get(f"{path}?after={middle}&order={order}")
            assert [item["role"] for item in page.json()["data"]] == texts, page.text
        assert (await client.get(f"{path}/{middle}")).status_code == 404


async def test_behind_an_item_that_came_to_nothing_no_message_is_left_out() -> None:
    """A stream tells of it as incomplete. The message behind its response may be the very next one of the chat."""
    world = World()
    async with client_of(world) as client:
        name = await conversation(client)
        told = [await answered(world, client, name, TextPart(text)) for text in ("one", "two")]
        nothing = told[0]["output"][0]["id"].rpartition("_")[0] + "_99"
        path = f"/v1/conversations/{name}/items"
        for order, texts in (("asc", ["user", "assistant"]), ("desc", ["assistant", "user"])):
            page = await client.get(f"{path}?after={nothing}&order={order}")
            assert [item["role"] for item in page.json()["data"]] == texts, page.text


async def test_an_item_is_found_by_its_id_in_the_output_of_its_response() -> None:
    world = World()
    async with client_of(world) as client, world.client(await world.token("eve")) as eve:
        name = await conversation(client)
        told = await answered(world, client, name, ReasoningPart("hm"), TextPart("an answer"))
        other = await conversation(client)
        thought, text = told["output"]
        for item in (thought, text):
            path = f"/v1/conversations/{name}/items/{item['id']}"
            found = (await client.get(path)).json()
            assert (found["id"], found["type"]) == (item["id"], item["type"])
            elsewhere = await client.get(f"/v1/conversations/{other}/items/{item['id']}")
            assert (elsewhere.status_code, error_code(elsewhere)) == (404, "item_not_found")
            assert error_code(await eve.get(path)) == "conversation_not_found"
        page = (await client.get(f"/v1/conversations/{name}/items?after={text['id']}")).json()
        assert [item["type"] for item in page["data"]] == ["reasoning", "message"]
        assert (await client.delete(f"/v1/conversations/{name}/items/{text['id']}")).status_code == 200
        assert [item["role"] for item in await listed(client, name)] == ["user"]


@pytest.mark.parametrize("name", ["msg_" + "f" * 16, "rs_1_0", "fc_" + "f" * 15 + "_0", "item", "msg_0"])
async def test_what_cannot_be_an_item_is_not_found(name: str) -> None:
    world = World()
    async with client_of(world) as client:
        path = f"/v1/conversations/{await conversation(client, HELLO)}/items"
        for method in ("GET", "DELETE"):
            answer = await client.request(method, f"{path}/{name}")
            assert (answer.status_code, error_code(answer)) == (404, "item_not_found")
