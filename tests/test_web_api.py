"""The API's routes as a caller sees them, from the socket to the (memory) store."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from web_world import World, client_of, error_code, serving, unknown_chat

from chatcluster.chat import ErrorInfo, Fail, Fence, FinishInterruption, FinishTurn
from chatcluster.errors import StoreUnavailable, TooMany
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import Claimed, Replica

Json = dict[str, Any]


async def create(client: httpx.AsyncClient, content: Any = "hello", **fields: Any) -> Json:
    response = await client.post("/api/v1/chats", json={"content": content, **fields})
    assert response.status_code == 201, response.text
    chat: Json = response.json()
    return chat


async def history(client: httpx.AsyncClient, chat_id: str) -> Json:
    page: Json = (await client.get(f"/api/v1/chats/{chat_id}/messages")).json()
    return page


def texts(page: Json) -> list[tuple[str, str]]:
    return [(message["role"], message["parts"][0]["text"]) for message in page["messages"]]


async def claim(world: World) -> Claimed:
    """Take the one runnable chat, as a replica would."""
    replica = Replica(uuid4(), "r", "host:1", "1", slots=4)
    await world.registry.register(replica)
    (claimed,) = await world.store.claim(replica.worker_id, free_slots=4, batch=1)
    return claimed


def fence_of(claimed: Claimed) -> Fence:
    chat = claimed.chat
    assert chat.worker_id is not None
    return Fence(chat.id, chat.worker_id, chat.epoch, chat.history_version)


async def finish(world: World, answer: str = "hi") -> None:
    """Answer the one runnable chat, as a replica would."""
    message = NewMessage(Role.ASSISTANT, (TextPart(answer),), finish_reason="stop", model="m")
    await world.store.commit(fence_of(await claim(world)), FinishTurn((message,)))


class TestChats:
    async def test_a_new_chat_is_returned_whole_and_waits_for_an_owner(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client, "one two three four five six seven", model="gpt-x")
            assert set(chat) == {
                "id", "title", "status", "archived", "pinned", "cause", "model", "worker_id", "epoch",
                "snapshot_version", "history_version", "queue_version", "attempt", "last_error",
                "created_at", "updated_at", "mcp_servers", "agents", "parent_id", "root_id",
            }  # fmt: skip
            assert (chat["status"], chat["model"], chat["archived"]) == ("pending", "gpt-x", False)
            assert chat["title"] == "one two three four five six"
            assert world.notices.told == [(UUID(chat["id"]), "created")]
            shown = (await client.get(f"/api/v1/chats/{chat['id']}")).json()
            assert shown == {
                **chat,
                "tools": [],
                "action_required": [],
                "usage": shown["usage"],
                "family_usage": None,
                "system_prompt": None,
                "workspace": None,
            }

    async def test_content_is_text_or_a_list_of_text_parts_kept_as_they_are(self) -> None:
        async with client_of(World()) as client:
            parts = [{"type": "text", "text": " a\u2028"}, {"type": "text", "text": "\U0001f600b\n"}]
            chat = await create(client, parts, system_prompt="Be brief.", title="  T  ")
            page = await history(client, chat["id"])
            assert chat["title"] == "T"
            assert texts(page) == [("user", " a\u2028")], "a system text is no message that is shown"
            assert page["messages"][0]["parts"] == parts
            assert page["queue"] == []
            assert page["has_more"] is False

    async def test_the_list_is_newest_first_and_paged_and_without_archived_ones(self) -> None:
        world = World()
        async with client_of(world) as client:
            chats = []
            for number in range(5):
                chats.append((await create(client, f"chat {number}"))["id"])
                await finish(world)
            await client.patch(f"/api/v1/chats/{chats[2]}", json={"archived": True})
            first = (await client.get("/api/v1/chats?limit=3")).json()
            assert [chat["id"] for chat in first["chats"]] == [chats[4], chats[3], chats[1]]
            assert first["has_more"] is True
            rest = (await client.get("/api/v1/chats", params={"limit": 3, "after": chats[1]})).json()
            assert ([chat["id"] for chat in rest["chats"]], rest["has_more"]) == ([chats[0]], False)
            archived = (await client.get("/api/v1/chats?archived=true")).json()
            assert [chat["id"] for chat in archived["chats"]] == [chats[2]]

    async def test_renaming_and_archiving_tell_and_repeating_them_does_not(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            await finish(world)
            world.notices.told.clear()
            path = f"/api/v1/chats/{chat['id']}"
            changed = (await client.patch(path, json={"title": "new", "archived": True})).json()
            assert (changed["title"], changed["archived"]) == ("new", True)
            again = await client.patch(path, json={"title": "new", "archived": True})
            assert (again.status_code, again.json()) == (200, changed)
            assert (await client.patch(path, json={"archived": False})).json()["archived"] is False
            assert [lifecycle for _, lifecycle in world.notices.told] == ["archived", "title", "unarchived"]

    async def test_archiving_a_busy_chat_interrupts_it_and_wishing_it_twice_is_no_error(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            path = f"/api/v1/chats/{chat['id']}"
            first = (await client.patch(path, json={"archived": True})).json()
            assert (first["status"], first["archived"]) == ("interrupting", False)
            assert (await client.patch(path, json={"archived": True})).json() == first
            assert error_code(await client.patch(path, json={"archived": False})) == "conflict"
            await world.store.commit(fence_of(await claim(world)), FinishInterruption())
            assert (await client.get(path)).json()["archived"] is True

    async def test_an_interrupt_returns_the_chat_and_one_at_rest_has_nothing_to_interrupt(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            path = f"/api/v1/chats/{chat['id']}/interrupt"
            response = await client.post(path)
            assert (response.status_code, response.json()["status"]) == (200, "interrupting")
            await world.store.commit(fence_of(await claim(world)), FinishInterruption())
            refused = await client.post(path)
            assert (refused.status_code, error_code(refused)) == (409, "not_allowed_in_status")

    async def test_a_chat_that_rests_or_failed_is_summarised_and_a_busy_one_is_not(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            path = f"/api/v1/chats/{chat['id']}/compact"
            refused = await client.post(path)
            assert (refused.status_code, error_code(refused)) == (409, "not_allowed_in_status")
            await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo("auth", "the key is wrong")))
            response = await client.post(path)
            assert (response.status_code, response.json()["status"]) == (202, "pending")
            assert response.json()["last_error"] is None
            await world.store.commit(fence_of(await claim(world)), FinishTurn())
            assert (await client.get(f"/api/v1/chats/{chat['id']}")).json()["status"] == "waiting"

    async def test_an_error_of_the_last_turn_is_shown(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            await world.store.commit(fence_of(await claim(world)), Fail(ErrorInfo("auth", "the key is wrong")))
            shown = (await client.get(f"/api/v1/chats/{chat['id']}")).json()
            assert (shown["status"], shown["last_error"]["code"]) == ("error", "auth")


class TestMessages:
    async def test_a_message_to_a_chat_at_rest_goes_into_history(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            await finish(world)
            world.notices.told.clear()
            response = await client.post(f"/api/v1/chats/{chat['id']}/messages", json={"content": "more"})
            assert response.status_code == 201
            assert response.json()["message"]["parts"] == [{"type": "text", "text": "more"}]
            assert texts(await history(client, chat["id"])) == [
                ("user", "hello"),
                ("assistant", "hi"),
                ("user", "more"),
            ]
            assert world.notices.told == [(UUID(chat["id"]), "status")]

    async def test_a_message_to_a_busy_chat_is_queued_can_be_deleted_and_promoted(self) -> None:
        world = World()
        async with client_of(world) as client:
            path = f"/api/v1/chats/{(await create(client))['id']}"
            queued = []
            for content in ("first", "second"):
                response = await client.post(f"{path}/messages", json={"content": content})
                assert response.status_code == 202
                queued.append(response.json()["queued"]["id"])
            promoted = await client.post(f"{path}/queue/{queued[1]}/promote")
            assert (promoted.status_code, promoted.json()["chat"]["status"]) == (200, "interrupting")
            assert "message" not in promoted.json()
            assert (await client.delete(f"{path}/queue/{queued[0]}")).status_code == 204
            page = (await client.get(f"{path}/messages")).json()
            assert [item["id"] for item in page["queue"]] == [queued[1]]
            gone = await client.delete(f"{path}/queue/{queued[0]}")
            assert (gone.status_code, error_code(gone)) == (404, "queued_message_not_found")

    async def test_the_twenty_first_queued_message_is_refused_and_not_written(self) -> None:
        world = World()
        async with client_of(world) as client:
            path = f"/api/v1/chats/{(await create(client))['id']}/messages"
            for number in range(20):
                assert (await client.post(path, json={"content": str(number)})).status_code == 202
            before = world.written()
            refused = await client.post(path, json={"content": "one too many"})
            assert (refused.status_code, error_code(refused)) == (409, "queue_full")
            assert world.written() == before

    async def test_an_edit_replaces_the_message_and_all_after_it(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            await finish(world)
            path = f"/api/v1/chats/{chat['id']}/messages"
            user, assistant = (await client.get(path)).json()["messages"]
            edited = await client.patch(f"{path}/{user['id']}", json={"content": "other"})
            assert edited.status_code == 200
            assert edited.json()["message"]["parts"][0]["text"] == "other"
            assert texts(await history(client, chat["id"])) == [("user", "other")]
            gone = await client.patch(f"{path}/{assistant['id']}", json={"content": "x"})
            assert (gone.status_code, error_code(gone)) == (404, "message_not_found")

    async def test_an_assistants_message_cannot_be_edited(self) -> None:
        world = World()
        async with client_of(world) as client:
            path = f"/api/v1/chats/{(await create(client))['id']}/messages"
            await finish(world)
            message_id = (await client.get(path)).json()["messages"][1]["id"]
            refused = await client.patch(f"{path}/{message_id}", json={"content": "x"})
            assert (refused.status_code, error_code(refused)) == (409, "message_not_user")

    async def test_an_archived_chat_takes_no_messages(self) -> None:
        world = World()
        async with client_of(world) as client:
            path = f"/api/v1/chats/{(await create(client))['id']}"
            await finish(world)
            await client.patch(path, json={"archived": True})
            refused = await client.post(f"{path}/messages", json={"content": "x"})
            assert (refused.status_code, error_code(refused)) == (409, "chat_archived")

    async def test_history_is_read_in_pages(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            await finish(world)
            path = f"/api/v1/chats/{chat['id']}/messages"
            first = (await client.get(f"{path}?limit=1")).json()
            assert (texts(first), first["has_more"]) == ([("user", "hello")], True)
            rest = (await client.get(f"{path}?limit=1&after={first['messages'][0]['id']}")).json()
            assert (texts(rest), rest["has_more"]) == ([("assistant", "hi")], False)
            message = rest["messages"][0]
            assert (message["finish_reason"], message["model"]) == ("stop", "m")

    async def test_a_message_may_name_the_model_that_answers_it(self) -> None:
        """In history and in the queue; without a name, nothing is said of it."""
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            path = f"/api/v1/chats/{chat['id']}/messages"
            queued = (await client.post(path, json={"content": "next", "model": " large "})).json()["queued"]
            assert queued["model"] == "large"
            assert "model" not in (await client.post(path, json={"content": "then"})).json()["queued"]
            await finish(world)
            page = (await client.get(path)).json()
            assert [message.get("model") for message in page["messages"]] == [None, "m", "large"]
            edited = await client.patch(f"{path}/{page['messages'][-1]['id']}", json={"content": "x", "model": "small"})
            assert edited.json()["message"]["model"] == "small"
            for model in ("", "a" * 201, "two\nlines", 7):
                refused = await client.post(path, json={"content": "hello", "model": model})
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")


class TestIdempotency:
    """P1: a request may be repeated until it is answered; it takes effect once."""

    async def test_a_repeated_send_returns_the_first_answer_and_writes_nothing(self) -> None:
        world = World()
        async with client_of(world) as client:
            path = f"/api/v1/chats/{(await create(client))['id']}/messages"
            await finish(world)
            first = await client.post(path, json={"content": "x"}, headers={"Idempotency-Key": "k1"})
            before, told = world.written(), len(world.notices.told)
            again = await client.post(path, json={"content": "x"}, headers={"Idempotency-Key": "k1"})
            assert (again.status_code, again.json()["message"]) == (201, first.json()["message"])
            assert (world.written(), len(world.notices.told)) == (before, told)

    async def test_a_repeated_create_makes_one_chat(self) -> None:
        world = World()
        async with client_of(world) as client:
            answers = [
                (await client.post("/api/v1/chats", json={"content": "x"}, headers={"Idempotency-Key": "k"})).json()
                for _ in range(3)
            ]
            assert len({answer["id"] for answer in answers}) == 1
            assert len(world.database.chats) == 1

    async def test_a_key_belongs_to_one_request(self) -> None:
        world = World()
        async with client_of(world) as client:
            headers = {"Idempotency-Key": "k"}
            await client.post("/api/v1/chats", json={"content": "x"}, headers=headers)
            other = await client.post("/api/v1/chats", json={"content": "y"}, headers=headers)
            assert (other.status_code, error_code(other)) == (409, "idempotency_key_reused")
            assert len(world.database.chats) == 1

    async def test_a_key_belongs_to_one_user(self) -> None:
        world = World()
        async with client_of(world) as ada, world.client(await world.token("bob")) as bob:
            headers = {"Idempotency-Key": "k"}
            mine = await ada.post("/api/v1/chats", json={"content": "x"}, headers=headers)
            his = await bob.post("/api/v1/chats", json={"content": "x"}, headers=headers)
            assert mine.json()["id"] != his.json()["id"]

    @pytest.mark.parametrize("key", ["", "k" * 256, "two words", "k\u00e9y"])
    async def test_a_key_is_1_to_255_visible_characters(self, key: str) -> None:
        world = World()
        async with client_of(world) as client:
            headers = [(b"idempotency-key", key.encode("latin-1"))]
            refused = await client.post("/api/v1/chats", json={"content": "x"}, headers=headers)
            assert (refused.status_code, error_code(refused)) == (400, "invalid_request")
            assert not world.database.chats


class TestOthers:
    """P9: nobody reads or writes what is not theirs; another's chat is as good as none."""

    async def test_every_route_answers_for_another_users_chat_as_for_one_that_is_not_there(self) -> None:
        world = World()
        async with client_of(world, "ada") as ada, world.client(await world.token("bob")) as bob:
            hers = (await create(ada))["id"]
            message_id = (await history(ada, hers))["messages"][0]["id"]
            await ada.post(f"/api/v1/chats/{hers}/messages", json={"content": "q"})
            queued_id = (await history(ada, hers))["queue"][0]["id"]
            before = world.written()
            routes: list[tuple[str, str, Json | None]] = [
                ("GET", "", None),
                ("PATCH", "", {"title": "mine now"}),
                ("PATCH", "", {"archived": True}),
                ("GET", "/messages", None),
                ("POST", "/messages", {"content": "x"}),
                ("PATCH", f"/messages/{message_id}", {"content": "x"}),
                ("DELETE", f"/queue/{queued_id}", None),
                ("POST", f"/queue/{queued_id}/promote", None),
                ("POST", "/interrupt", None),
                ("POST", "/compact", None),
                ("GET", "/stream", None),
            ]
            for method, tail, body in routes:
                answers = []
                for chat_id in (hers, unknown_chat()):
                    response = await bob.request(method, f"/api/v1/chats/{chat_id}{tail}", json=body)
                    assert response.status_code == 404, (method, tail)
                    answers.append(response.text.replace(chat_id, "ID"))
                assert answers[0] == answers[1], (method, tail)
                assert '"chat_not_found"' in answers[0]
            assert world.written() == before
            assert (await bob.get("/api/v1/chats")).json() == {"chats": [], "has_more": False}
            foreign_page = await bob.get("/api/v1/chats", params={"after": hers})
            assert (foreign_page.status_code, error_code(foreign_page)) == (404, "chat_not_found")


class TestTrouble:
    async def test_without_postgres_a_request_is_refused_for_now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)

            async def unavailable(*_: Any, **__: Any) -> Any:
                raise StoreUnavailable("connection refused at 10.0.0.1 as user chatcluster")

            monkeypatch.setattr(world.store, "details", unavailable)
            response = await client.get(f"/api/v1/chats/{chat['id']}")
            assert (response.status_code, error_code(response)) == (503, "store_unavailable")
            assert response.headers["retry-after"] == "1"
            assert "10.0.0.1" not in response.text

    async def test_a_bug_is_a_500_that_says_nothing_about_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)

            async def bug(*_: Any, **__: Any) -> Any:
                raise KeyError("secret")

            monkeypatch.setattr(world.store, "details", bug)
            response = await client.get(f"/api/v1/chats/{chat['id']}")
            assert (response.status_code, error_code(response)) == (500, "internal")
            assert "secret" not in response.text
            assert b'chatcluster_crashes_total{where="http"} 1.0' in world.metrics.render()

    async def test_too_many_readers_are_told_when_to_come_back(self) -> None:
        world = World()
        async with client_of(world) as client:
            chat = await create(client)
            world.feeds.refusal = TooMany("full", retry_after_seconds=3)
            response = await client.get(f"/api/v1/chats/{chat['id']}/stream")
            assert (response.status_code, error_code(response)) == (429, "too_many")
            assert response.headers["retry-after"] == "3"


class TestHealth:
    async def test_live_as_long_as_it_answers(self) -> None:
        world = World()
        world.health.checks = {"postgres": "gone"}
        async with client_of(world) as client:
            assert (await client.get("/livez")).status_code == 200

    async def test_load_balancers_may_ask_for_the_head_alone(self) -> None:
        async with client_of(World()) as client:
            for path in ("/livez", "/readyz", "/metrics"):
                response = await client.head(path)
                assert (response.status_code, response.content) == (200, b"")

    @pytest.mark.parametrize(
        ("checks", "draining", "status"),
        [
            ({"postgres": "ok", "schema": "ok", "redis": "ok"}, False, 200),
            ({"postgres": "ok", "schema": "ok", "redis": "refused"}, False, 200),  # P8: no condition
            ({"postgres": "refused"}, False, 503),
            ({"postgres": "ok", "schema": "not there yet"}, False, 503),
            ({"postgres": "ok", "schema": "ok"}, True, 503),
        ],
    )
    async def test_ready_with_postgres_and_its_schema_while_not_draining(
        self, checks: dict[str, str], draining: bool, status: int
    ) -> None:
        world = World()
        world.health.checks, world.health.draining = checks, draining
        async with serving(world), world.client(None) as client:
            own = await client.get("/readyz")
            assert (own.status_code, own.json()["checks"]) == (status, checks)
            public = await client.get(f"{world.public_url}/readyz")
            assert (public.status_code, "checks" in public.json()) == (status, False)

    async def test_openapi_describes_the_routes_their_errors_and_the_streams(self) -> None:
        async with serving(world := World()), world.client(None) as client:
            schema = (await client.get("/schema")).json()
            stream = schema["paths"]["/api/v1/chats/{chat_id}/stream"]["get"]
            assert "text/event-stream" in stream["responses"]["200"]["content"]
            send_route = schema["paths"]["/api/v1/chats/{chat_id}/messages"]["post"]
            assert {"201", "202", "413", "415"} <= set(send_route["responses"])
            create_route = schema["paths"]["/api/v1/chats"]["post"]
            assert create_route["responses"]["409"]["content"]["application/json"]["schema"] == {
                "$ref": "#/components/schemas/ErrorAnswer"
            }
            assert "content" in schema["components"]["schemas"]["CreateChat"]["properties"]
