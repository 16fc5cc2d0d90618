"""Tokens with scopes, and such as expire (P9): where they let in, and how each door says that they do not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
import trio
from web_world import World, client_of, error_code, serving, until_broken_off

from chatcluster.cli import commands as cli
from chatcluster.ports import TokenScope
from chatcluster.web.doors.routes import ROUTES, SCOPES

FOR_ALL = {("get", "/api/v1/me"), ("get", "/api/v1/session")}
"""Who asks who it is."""


class Route(NamedTuple):
    method: str
    path: str
    scope: TokenScope


def routes(document: dict[str, Any]) -> Iterator[Route]:
    """Every route that needs a token, and the scope that its address says."""
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if described.get("security") != [{}] and (method, path) not in FOR_ALL and is_behind_a_token(path):
                yield Route(method, path, scope_of(path))


def is_behind_a_token(path: str) -> bool:
    return path.startswith("/api/v1/") or any(path.startswith(door) for door in ROUTES)


def scope_of(path: str) -> TokenScope:
    door = next((scope for door, scope in SCOPES.items() if path.startswith(door)), None)
    return door or (TokenScope.ADMIN if is_for_administrators(path) else TokenScope.CHATS)


def is_for_administrators(path: str) -> bool:
    known = ("/api/v1/admin/", "/api/v1/replicas", "/api/v1/tokens", "/api/v1/config/")
    return path.startswith(known)


def is_out_of_scope(response: httpx.Response) -> bool:
    if response.status_code != 403 or "insufficient_scope" not in response.headers.get("www-authenticate", ""):
        return False
    error = response.json()["error"]
    assert (error.get("data") or error)["code"] == "out_of_scope"
    return True


async def asked(client: httpx.AsyncClient, route: Route) -> httpx.Response:
    """Without waiting for the end of what goes on."""
    path = route.path.replace("{", "").replace("}", "")
    async with client.stream(route.method.upper(), path) as response:
        if "event-stream" not in response.headers.get("content-type", ""):
            await response.aread()
        return response


async def test_every_route_takes_tokens_of_its_scope_and_no_others() -> None:
    world = World(requests_per_user=0)
    async with serving(world):
        async with world.client(None) as client:
            everything = list(routes((await client.get("/schema/openapi.json")).json()))
        assert {route.scope for route in everything} >= {TokenScope.CHATS, TokenScope.ADMIN, TokenScope.OPENAI}
        for scope in TokenScope:
            only = await world.token("root", admin=True, scopes=(scope,))
            others = await world.token(
                "root", admin=True, scopes=tuple(other for other in TokenScope if other is not scope)
            )
            async with world.client(only) as inside, world.client(others) as outside:
                for route in (route for route in everything if route.scope is scope):
                    assert is_out_of_scope(await asked(outside, route)), route
                    if route.path.startswith(("/api/v1/watch", "/api/v1/stream")):
                        continue
                    assert not is_out_of_scope(await asked(inside, route)), route


async def test_a_token_without_scopes_is_good_for_all_and_anybody_may_ask_what_theirs_is_good_for() -> None:
    world = World()
    async with client_of(world, admin=True) as client:
        assert (await client.get("/api/v1/me")).json()["scopes"] is None
        for path in ("/api/v1/chats", "/api/v1/tokens", "/v1/models"):
            assert (await client.get(path)).status_code == 200
        made = await client.post("/api/v1/tokens", json={"user": "bot", "scopes": ["mcp", "openai", "mcp"]})
        assert made.json()["details"]["scopes"] == ["openai", "mcp"]
        async with world.client(made.json()["token"]) as bot:
            for path in ("/api/v1/me", "/api/v1/session"):
                assert (await bot.get(path)).json()["scopes"] == ["openai", "mcp"]
            refused = await bot.get("/api/v1/chats")
            assert (refused.status_code, error_code(refused)) == (403, "out_of_scope")
            assert refused.json()["error"]["scope"] == "chats"
        wrong = await client.post("/api/v1/tokens", json={"user": "eve", "scopes": ["root"]})
        assert (wrong.status_code, error_code(wrong)) == (400, "invalid_request")
        assert "ai-sdk" in wrong.json()["error"]["message"]


async def test_scopes_give_no_rights_that_the_user_does_not_have() -> None:
    world = World()
    async with serving(world), world.client(await world.token("ada", scopes=("admin", "chats"))) as ada:
        refused = await ada.get("/api/v1/tokens")
        assert (refused.status_code, error_code(refused)) == (403, "forbidden")


async def test_a_session_opens_what_its_token_opens() -> None:
    world = World()
    async with serving(world):
        token = await world.token("ada", scopes=("mcp",))
        async with world.client(None) as browser:
            signed_in = await browser.post("/api/v1/session", json={"token": token})
            assert signed_in.json()["scopes"] == ["mcp"]
            headers = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
            refused = await browser.get("/api/v1/chats", headers=headers)
            assert (refused.status_code, error_code(refused)) == (403, "out_of_scope")


async def test_metrics_on_the_public_port_are_administration() -> None:
    world = World()
    async with serving(world), world.client(None, base_url=world.public_url) as client:
        for scopes, status in (((TokenScope.CHATS,), 403), ((TokenScope.ADMIN,), 200)):
            headers = {"Authorization": f"Bearer {await world.token('root', admin=True, scopes=scopes)}"}
            assert (await client.get("/metrics", headers=headers)).status_code == status


BAD = {"missing": (401, "invalid_token"), "wrong": (401, "invalid_token"), "expired": (401, "invalid_token")}


@pytest.mark.parametrize("what", [*BAD, "out of scope"])
async def test_each_door_refuses_in_its_own_form(what: str) -> None:
    world = World()
    async with serving(world):
        past = world.database.now() - timedelta(seconds=1)
        token: Any = {
            "missing": None,
            "wrong": "ccl_wrong",
            "expired": await world.token(expires_at=past),
            "out of scope": await world.token(scopes=("ag-ui",)),
        }[what]
        status, code = BAD.get(what, (403, "out_of_scope"))
        async with world.client(token) as client:
            ours = await client.get("/api/v1/chats")
            assert (ours.status_code, ours.json()["error"]["code"]) == (status, code)
            openai = await client.get("/v1/models")
            assert openai.status_code == status
            kind = "authentication_error" if status == 401 else "permission_error"
            theirs = "invalid_api_key" if status == 401 else code
            assert (openai.json()["error"]["type"], openai.json()["error"]["code"]) == (kind, theirs)
            mcp = await client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert (mcp.status_code, mcp.json()["jsonrpc"], mcp.json()["id"]) == (status, "2.0", None)
            assert mcp.json()["error"]["data"]["code"] == code


async def test_a_token_that_expires_lets_nobody_in_from_that_moment_on_and_ends_its_streams() -> None:
    """Though it was accepted a moment before, and nothing happens on the stream."""
    world = World(sse_heartbeat_seconds=3600)
    async with serving(world):
        end = world.database.now() + timedelta(seconds=1.2)
        async with world.client(await world.token(expires_at=end)) as client:
            async with client.stream("GET", "/api/v1/watch") as response:
                assert response.status_code == 200
                await until_broken_off(response)
            assert world.database.now() >= end
            assert (await client.get("/api/v1/me")).status_code == 401
        async with world.client(
            await world.token(expires_at=(end := world.database.now() + timedelta(seconds=1.0)))
        ) as client:
            assert (await client.get("/api/v1/me")).status_code == 200
            while world.database.now() < end:  # noqa: ASYNC110 - a clock
                await trio.sleep(0.01)
            assert (await client.get("/api/v1/me")).status_code == 401


@pytest.mark.postgres
def test_the_command_line_makes_tokens_for_a_door_and_for_a_while(
    capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    where = ("--database-url", database_url)
    wanted = ("--scope", "mcp", "--scope", "chats", "--expires-in-days", "30")
    assert cli.run(["token", "create", "--user", "alice", *wanted, *where]) == 0
    capsys.readouterr()
    assert cli.run(["token", "list", "--json", *where]) == 0
    (listed,) = msgspec.json.decode(capsys.readouterr().out)
    assert listed["scopes"] == ["chats", "mcp"]
    assert listed["expires_at"] is not None
    assert cli.run(["token", "create", "--scope", "everything", *where]) != 0
    assert "ai-sdk" in capsys.readouterr().err
