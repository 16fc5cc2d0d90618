"""Every route, and whom it lets in: nobody without a token or cookie, and no other page with a cookie (P9).

The routes are those of the OpenAPI document, so that one that is added is looked at as well.
"""

from __future__ import annotations

from typing import Any

import httpx
from test_web_api import create
from test_web_sessions import OWN_PAGE, signed_in
from web_world import World, client_of, error_code

from chatcluster.web.doors.routes import ROUTES

DOORS = tuple(f"{path}/" for path in ROUTES)
UNKNOWN_TOKEN = ("invalid_token", "invalid_api_key")
"""As each front door says it."""
OPEN = {("post", "/api/v1/session"), ("delete", "/api/v1/session")}


async def routes(client: httpx.AsyncClient, chat_id: str) -> list[tuple[str, str]]:
    """Method and address of each, with an existing chat and otherwise what does not exist."""
    paths: dict[str, Any] = (await client.get("/schema/openapi.json")).json()["paths"]
    known = [
        (method, path) for path, methods in paths.items() for method in methods if path.startswith(("/api/v1/", *DOORS))
    ]
    assert len(known) > 25
    values = {"{chat_id}": chat_id, "{message_id}": "1", "{queued_id}": "1", "{token_id}": "x", "{worker_id}": chat_id}
    filled = []
    for method, path in known:
        for name, value in values.items():
            path = path.replace(name, value)
        filled.append((method, path))
    return filled


async def test_without_token_or_cookie_no_route_but_signing_in_and_out_is_open() -> None:
    world = World()
    async with client_of(world) as ada, world.client(None) as nobody:
        chat = await create(ada)
        for method, path in await routes(ada, chat["id"]):
            if (method, path) not in OPEN:
                answer = await nobody.request(method, path, headers=OWN_PAGE)
                assert answer.status_code == 401, (method, path)
                assert error_code(answer) in UNKNOWN_TOKEN, (method, path)


async def test_with_a_cookie_every_write_needs_its_own_page() -> None:
    world = World()
    async with client_of(world) as ada, signed_in(world, "ada", admin=True) as browser:
        chat = await create(ada)
        before = world.written()
        for method, path in await routes(ada, chat["id"]):
            if method == "get":
                continue
            for origin in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example", "Sec-Fetch-Site": ""}):
                answer = await browser.request(method, path, headers=origin, json={})
                assert (answer.status_code, error_code(answer)) == (403, "cross_origin"), (method, path)
        assert world.written() == before
        assert (await browser.get("/api/v1/session")).status_code == 200, "it is signed in still"


async def test_no_route_shows_or_changes_another_users_chat() -> None:
    world = World()
    async with client_of(world) as ada, world.client(await world.token("eve")) as eve:
        chat = await create(ada)
        before = world.written()
        for method, path in await routes(ada, chat["id"]):
            if chat["id"] in path and "/admin/" not in path:
                answer = await eve.request(method, path, json=None if method in ("get", "delete") else {"content": "x"})
                assert answer.status_code in (400, 404), (method, path)
                assert answer.status_code == 400 or error_code(answer) == "chat_not_found", (method, path)
        assert (await eve.get(f"/api/v1/watch?chat={chat['id']}")).status_code == 404
        assert world.written() == before


async def test_what_is_for_administrators_is_refused_to_all_others() -> None:
    world = World()
    async with client_of(world) as ada, signed_in(world, "bob") as browser:
        chat = await create(ada)
        found = [one for one in await routes(ada, chat["id"]) if "/admin/" in one[1]]
        assert len(found) >= 8
        for client in (ada, browser):
            for method, path in found:
                answer = await client.request(method, path, json=None if method == "get" else {"user": "x"})
                assert (answer.status_code, error_code(answer)) == (403, "forbidden"), (method, path)


async def test_who_signs_in_sends_little() -> None:
    """P10: somebody who is not known yet has no body to fill a replica's memory with."""
    world = World()
    async with client_of(world) as ada:
        answer = await ada.post("/api/v1/session", json={"token": "x" * 5000})
        assert (answer.status_code, error_code(answer)) == (413, "request_too_large")
