"""Every route, and whom it lets in (P9): nobody without a token or cookie, no other page with a cookie, nobody to what
is somebody else's, none but administrators to what is theirs.

The routes are those that the application is made of, so that one that is added is looked at as well.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from test_web_api import create
from test_web_push import BODY as PUSH
from test_web_sessions import OWN_PAGE, signed_in
from test_web_workspaces import TEMPLATE, host_of
from web_world import World, client_of, error_code, serving

from chatcluster.web.routes import API, BESIDE, DOORS

UNKNOWN_TOKEN = ("invalid_token", "invalid_api_key")
"""As each front door says it."""
SIGNING_IN = "/api/v1/session"
FOR_ADMINISTRATORS = ("/api/v1/admin/", "/api/v1/replicas", "/api/v1/tokens", "/api/v1/config/")
BESIDE_ALL = {
    "/livez", "/readyz", "/metrics", "/oauth/mcp/sign-in/{ticket}", "/oauth/mcp/callback", "/oauth/mcp/client"
}  # fmt: skip
"""What stands beside the API and its doors: each with its own tests of whom it lets in."""
BY_TOKEN_ALONE = ("POST", "/api/v1/session/codes")
"""A session makes no further sessions."""
BODIES = {SIGNING_IN: {"token": "x"}, "PATCH": {"title": "x"}}
SAYING_NOTHING = {"Sec-Fetch-Site": ""}
"""Whoever signs in or out need not be a page, and brings its secret along."""
ELSEWHERE = ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "", "Origin": "http://evil.example"}, SAYING_NOTHING)
"""What a browser says of a page that is not ours, or what says nothing."""


class Route(NamedTuple):
    method: str
    path: str

    @property
    def reads(self) -> bool:
        return self.method in ("GET", "HEAD")

    @property
    def is_open(self) -> bool:
        return self.path == SIGNING_IN and self.method in ("POST", "DELETE")

    @property
    def is_for_administrators(self) -> bool:
        return self.path.startswith(FOR_ADMINISTRATORS)

    def to(self, things: dict[str, str]) -> Route:
        """The address of these things."""
        return Route(self.method, self.path.format_map(things))


def of(prefix: str, handlers: Any) -> Iterator[Route]:
    for handler in handlers:
        for path in handler.paths:
            for method in handler.http_methods:
                yield Route(str(method), prefix + re.sub(r":\w+}", "}", path).rstrip("/"))


ROUTES = [*of("/api/v1", API), *(route for door, handlers in DOORS.items() for route in of(door, handlers))]
NAMES = {name for route in ROUTES for name in re.findall(r"{(\w+)}", route.path)}


def missing() -> dict[str, str]:
    """Things of every kind that nobody has."""
    chat = uuid4()
    nothing = {name: str(uuid4()) for name in NAMES} | {"message_id": "1", "queued_id": "1", "token_id": "x"}
    return nothing | {"conversation": f"conv_{chat.hex}", "response_id": f"resp_{chat.hex}1"}


async def things_of(world: World, ada: httpx.AsyncClient) -> dict[str, str]:
    """Things that ada has: of each kind that belongs to somebody."""
    chat = await create(ada, "a secret")
    file = await ada.post("/api/v1/files", content=b"a secret", headers={"Content-Type": "text/plain"})
    subscription = await ada.post("/api/v1/me/push-subscriptions", json=PUSH)
    await host_of(world)
    async with world.client(await world.token("root", admin=True)) as root:
        assert (await root.put("/api/v1/admin/templates/python", json=TEMPLATE)).is_success
    workspace = await ada.post("/api/v1/workspaces", json={"chat_id": chat["id"], "template": "python"})
    for made in (file, subscription, workspace):
        assert made.is_success, made.text
    key = chat["id"].replace("-", "")
    return missing() | {
        "chat_id": chat["id"],
        "chat": chat["id"],
        "conversation": f"conv_{key}",
        "response_id": f"resp_{key}1",
        "file_id": file.json()["id"],
        "subscription_id": subscription.json()["id"],
        "workspace_id": workspace.json()["workspace"]["id"],
    }


class Answer(NamedTuple):
    status: int
    code: str | None


async def asked(client: httpx.AsyncClient, route: Route, **options: Any) -> Answer:
    """Without waiting for the end of what goes on."""
    if not route.reads and route.method != "DELETE":
        options.setdefault("json", BODIES.get(route.path) or BODIES.get(route.method) or {"content": "x"})
    async with client.stream(route.method, route.path, **options) as response:
        if "event-stream" not in response.headers.get("content-type", ""):
            await response.aread()
        has_code = response.status_code >= 400 and route.method != "HEAD"  # which has no body to say it in
        return Answer(response.status_code, code_in(response) if has_code else None)


def code_in(response: httpx.Response) -> str:
    """Whichever front door says it."""
    error = response.json()["error"]
    return str((error.get("data") or error)["code"])


@asynccontextmanager
async def world_of_ada() -> AsyncIterator[tuple[World, dict[str, str]]]:
    world = World(requests_per_user=0)
    async with client_of(world) as ada:
        yield world, await things_of(world, ada)


def test_the_table_has_every_route() -> None:
    assert len(ROUTES) == len(set(ROUTES)) > 100
    assert {route.path for route in of("", BESIDE)} == BESIDE_ALL


async def test_nobody_without_a_token_or_a_cookie() -> None:
    async with world_of_ada() as (world, things), world.client(None) as nobody:
        nobody.headers.update(OWN_PAGE)
        before = world.written()
        for route in ROUTES:
            if not route.is_open:
                answer = await asked(nobody, route.to(things))
                assert answer.status == 401, route
                assert answer.code in UNKNOWN_TOKEN or route.method == "HEAD", route
        assert world.written() == before


@pytest.mark.parametrize("said", ELSEWHERE, ids=["cross-site", "foreign origin", "no origin"])
async def test_with_a_cookie_no_write_but_of_its_own_page(said: dict[str, str]) -> None:
    async with world_of_ada() as (world, things), signed_in(world, "ada", admin=True) as browser:
        before = world.written()
        for route in ROUTES:
            if not route.reads and not (route.is_open and said == SAYING_NOTHING):
                assert await asked(browser, route.to(things), headers=said) == (403, "cross_origin"), route
        assert world.written() == before
        assert (await browser.get(SIGNING_IN)).status_code == 200, "it is signed in still"


@pytest.mark.parametrize("who", ["cookie", "bearer"])
@pytest.mark.parametrize("admin", [False, True], ids=["user", "administrator"])
async def test_who_is_known_is_let_in_and_none_but_administrators_to_what_is_theirs(who: str, admin: bool) -> None:
    world = World(requests_per_user=0)
    nothing = missing()
    async with (
        serving(world),
        world.client(await world.token("ada", admin=admin)) as bearer,
        signed_in(world, "ada", admin=admin) as browser,
    ):
        for route in ROUTES:
            if not route.is_open:
                answer = await asked(browser if who == "cookie" else bearer, route.to(nothing))
                is_let_in = admin or not route.is_for_administrators
                is_let_in &= who == "bearer" or route != BY_TOKEN_ALONE
                assert (answer == (403, "forbidden")) is not is_let_in, route
                assert answer.status not in (401, 403) or not is_let_in, (route, answer)


@pytest.mark.parametrize("admin", [False, True], ids=["user", "administrator"])
async def test_what_is_somebody_elses_is_not_there(admin: bool) -> None:
    """Whoever asks gets the answer that there is for what nobody has, and nothing is changed."""
    async with world_of_ada() as (world, things):
        eve = world.client(await world.token("eve", admin=admin))
        ada = world.client(await world.token("ada"))
        before, shown = world.written(), set[str]()
        async with eve, ada:
            for route in ROUTES:
                if "{" in route.path and not route.is_for_administrators:
                    nobodys = await asked(eve, route.to(missing()))
                    assert await asked(eve, route.to(things)) == nobodys, route
                    if route.reads and (await asked(ada, route.to(things))).status == 200 != nobodys.status:
                        shown.add(route.path)
            assert (await eve.get(f"/api/v1/watch?chat={things['chat_id']}")).status_code == 404
        assert world.written() == before
        assert {re.findall(r"{(\w+)}", path)[0] for path in shown} >= {"chat_id", "chat", "file_id", "workspace_id"}


async def test_who_signs_in_sends_little() -> None:
    """P10: somebody who is not known yet has no body to fill a replica's memory with."""
    world = World()
    async with client_of(world) as ada:
        answer = await ada.post("/api/v1/session", json={"token": "x" * 5000})
        assert (answer.status_code, error_code(answer)) == (413, "request_too_large")
