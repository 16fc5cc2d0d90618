"""The routes of browsers that want to be told."""

from __future__ import annotations

from typing import Any

import pytest
from push_service import Browser
from web_world import World, client_of, error_code

BODY = {"endpoint": "https://push.example/1", "keys": Browser().keys, "expirationTime": None}


async def test_a_browser_subscribes_is_listed_and_unsubscribes() -> None:
    world = World()
    async with client_of(world) as ada, client_of(world, "bob") as bob:
        assert (await ada.get("/api/v1/push")).json() == {"public_key": "public"}
        made = await ada.post("/api/v1/me/push-subscriptions", json=BODY)
        assert made.status_code == 201
        again = await ada.post("/api/v1/me/push-subscriptions", json=BODY)
        assert again.json()["id"] == made.json()["id"]
        listed = (await ada.get("/api/v1/me/push-subscriptions")).json()["subscriptions"]
        assert [one["endpoint"] for one in listed] == ["https://push.example/1"]
        assert (await bob.get("/api/v1/me/push-subscriptions")).json() == {"subscriptions": []}
        address = f"/api/v1/me/push-subscriptions/{made.json()['id']}"
        assert error_code(await bob.delete(address)) == "not_found"
        assert (await ada.delete(address)).status_code == 204
        assert error_code(await ada.delete(address)) == "not_found"
        assert error_code(await ada.delete("/api/v1/me/push-subscriptions/x")) == "not_found"


async def test_without_a_key_nobody_subscribes_and_the_answer_says_what_to_do() -> None:
    world = World()
    world.push_key = None
    async with client_of(world) as ada:
        assert (await ada.get("/api/v1/push")).json() == {"public_key": None}
        refused = await ada.post("/api/v1/me/push-subscriptions", json=BODY)
        assert (refused.status_code, error_code(refused)) == (404, "not_found")
        assert "CHATCLUSTER_PUSH_KEY" in refused.text


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "http://push.example/1"},
        {"endpoint": "https://169.254.169.254/latest"},
        {"keys": {"p256dh": "é", "auth": "AA"}},
        {"keys": {"p256dh": "AA", "auth": "AA"}},
        {"keys": {"p256dh": Browser().keys["p256dh"]}},
        {"more": 1},
    ],
)
async def test_what_no_message_could_be_sent_to_is_refused_and_nothing_is_kept(change: dict[str, Any]) -> None:
    world = World()
    async with client_of(world) as ada:
        refused = await ada.post("/api/v1/me/push-subscriptions", json=BODY | change)
        assert (refused.status_code, error_code(refused)) == (400, "invalid_request")
        assert (await ada.get("/api/v1/me/push-subscriptions")).json() == {"subscriptions": []}
