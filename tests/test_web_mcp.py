"""Routes of servers of tools: who may what, what is refused, and what nobody ever gets to see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from web_world import World, serving

from chatcluster.mcp_errors import LoginNotFound, SignInFailed
from chatcluster.ports import Grant, McpReport
from chatcluster.secrets import new_key

ADMIN = "/api/v1/admin/mcp-servers"
URL = "http://127.0.0.1:9000/mcp"
SECRET = "a-very-secret-token-of-ours"
BEARER = {"kind": "bearer", "token": SECRET}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World(encryption_keys=new_key())) as world:
        yield world


@pytest.fixture
async def admin(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client(await world.token("root", admin=True)) as client:
        yield client


@pytest.fixture
async def user(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client(await world.token("ada")) as client:
        yield client


async def add(admin: httpx.AsyncClient, slug: str = "files", **fields: Any) -> dict[str, Any]:
    answer = await admin.post(ADMIN, json={"slug": slug, "url": URL, **fields})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    return added


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# --- administrators ---------------------------------------------------------------------------


async def test_a_server_has_what_was_said_and_defaults(admin: httpx.AsyncClient) -> None:
    added = await add(admin, allow=["read"], approval="ask", tools={"read": {"effect": "read"}})
    assert added | {"created_at": None, "updated_at": None} == {
        "slug": "files",
        "url": URL,
        "transport": "streamable-http",
        "auth": {"kind": "none"},
        "secrets": {},
        "description": "",
        "enabled": True,
        "availability": "choice",
        "trusted": False,
        "allow": ["read"],
        "deny": [],
        "approval": "ask",
        "tools": {"read": {"effect": "read"}},
        "instructions": True,
        "idle_seconds": 60.0,
        "total_seconds": 600.0,
        "result_bytes_max": 10 << 20,
        "revision": 1,
        "created_at": None,
        "updated_at": None,
    }
    assert (await admin.get(ADMIN)).json() == {"mcp_servers": [added]}
    assert (await admin.get(f"{ADMIN}/files")).json() == added


async def test_a_url_that_ends_in_sse_is_spoken_to_by_sse(admin: httpx.AsyncClient) -> None:
    assert (await add(admin, url="http://host/sse"))["transport"] == "sse"
    assert (await add(admin, "other", url="http://host/sse", transport="streamable-http"))["transport"] != "sse"


async def test_another_url_is_reached_as_its_end_says_unless_somebody_said_it(admin: httpx.AsyncClient) -> None:
    await add(admin, url="http://host/sse")
    await add(admin, "other", url="http://host/sse", transport="streamable-http")
    moved = [
        (await admin.patch(f"{ADMIN}/{slug}", json={"url": "http://host/mcp"})).json() for slug in ("files", "other")
    ]
    assert [one["transport"] for one in moved] == ["streamable-http"] * 2
    back = [(await admin.patch(f"{ADMIN}/{slug}", json={"url": "http://host/sse"})).json() for slug in ("files",)]
    assert [one["transport"] for one in back] == ["sse"]
    said = await admin.patch(f"{ADMIN}/files", json={"url": "http://host/sse/", "transport": "streamable-http"})
    assert said.json()["transport"] == "streamable-http"


async def test_what_is_left_away_in_a_patch_stays(admin: httpx.AsyncClient) -> None:
    await add(admin, description="All files", auth=BEARER)
    changed = (await admin.patch(f"{ADMIN}/files", json={"enabled": False, "slug": "papers"})).json()
    assert (changed["slug"], changed["enabled"], changed["description"]) == ("papers", False, "All files")
    assert changed["secrets"]["token"]["last4"] == SECRET[-4:]
    assert code_of(await admin.get(f"{ADMIN}/files")) == (404, "mcp_server_not_found")


async def test_an_allow_list_is_taken_away_by_null(admin: httpx.AsyncClient) -> None:
    await add(admin, allow=["read"])
    assert (await admin.patch(f"{ADMIN}/files", json={"allow": None})).json()["allow"] is None


async def test_a_removed_server_is_gone(admin: httpx.AsyncClient) -> None:
    await add(admin)
    assert (await admin.delete(f"{ADMIN}/files")).status_code == 204
    assert code_of(await admin.delete(f"{ADMIN}/files")) == (404, "mcp_server_not_found")


async def test_a_test_says_what_is_wrong_in_its_answer(world: World, admin: httpx.AsyncClient) -> None:
    await add(admin)
    world.mcp_client.report = McpReport(ok=False, trouble="unreachable", error="nobody there")
    answer = await admin.post(f"{ADMIN}/files/test")
    assert (answer.status_code, answer.json()) == (
        200,
        {"ok": False, "trouble": "unreachable", "error": "nobody there"},
    )
    assert code_of(await admin.post(f"{ADMIN}/other/test")) == (404, "mcp_server_not_found")


async def test_every_replica_is_told_of_a_change(world: World, admin: httpx.AsyncClient) -> None:
    async with world.pubsub.subscribe("mcp-servers") as hints:
        await add(admin)
        await hints.receive()
        await admin.patch(f"{ADMIN}/files", json={"enabled": False})
        await hints.receive()
        await admin.delete(f"{ADMIN}/files")
        await hints.receive()


@pytest.mark.parametrize("method", ["get", "post"])
async def test_users_do_not_manage_servers(admin: httpx.AsyncClient, user: httpx.AsyncClient, method: str) -> None:
    await add(admin, auth=BEARER)
    assert code_of(await user.request(method, ADMIN, json={"slug": "x", "url": URL} if method == "post" else None)) == (
        403,
        "forbidden",
    )
    for path in ("files", "unknown"):
        for verb in ("GET", "PATCH", "DELETE"):
            assert code_of(await user.request(verb, f"{ADMIN}/{path}")) == (403, "forbidden")
    assert code_of(await user.post(f"{ADMIN}/files/test")) == (403, "forbidden")


# --- secrets ----------------------------------------------------------------------------------

SECRETS: list[dict[str, Any]] = [
    BEARER,
    {"kind": "api_key", "header": "X-Key", "value": SECRET},
    {"kind": "headers", "headers": {"X-One": SECRET, "X-Two": SECRET}},
    {"kind": "client_credentials", "client_id": "we", "client_secret": SECRET},
    {"kind": "oauth", "client_id": "we", "client_secret": SECRET},
]


@pytest.mark.parametrize("auth", SECRETS, ids=lambda auth: auth["kind"])
async def test_a_secret_is_stored_sealed_and_never_shown_again(
    world: World, admin: httpx.AsyncClient, auth: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    added = await add(admin, auth=auth)
    answers = [added, (await admin.get(ADMIN)).json(), (await admin.patch(f"{ADMIN}/files", json={})).json()]
    assert SECRET not in msgspec.json.encode(answers).decode()
    assert {secret["last4"] for secret in added["secrets"].values()} == {SECRET[-4:]}
    assert all(secret["set_at"] for secret in added["secrets"].values())
    (server,) = world.database.mcp.servers.values()
    assert server.sealed is not None
    assert SECRET.encode() not in server.sealed
    assert SECRET not in repr(server.settings)
    assert SECRET not in "".join(capfd.readouterr())


async def test_without_keys_a_secret_is_refused_and_nothing_is_written() -> None:
    async with serving(World()) as world, world.client(await world.token("root", admin=True)) as admin:
        answer = await admin.post(ADMIN, json={"slug": "files", "url": URL, "auth": BEARER})
        assert code_of(answer) == (409, "encryption_keys_missing")
        assert "CHATCLUSTER_ENCRYPTION_KEYS" in answer.json()["error"]["message"]
        assert not world.database.mcp.servers
        await add(admin)


# --- what is refused --------------------------------------------------------------------------

BAD: dict[str, dict[str, Any]] = {
    "no slug": {"slug": ""},
    "capitals": {"slug": "Files"},
    "underscore": {"slug": "my_files"},
    "hyphen first": {"slug": "-files"},
    "long slug": {"slug": "x" * 33},
    "slug of another type": {"slug": 7},
    "line in slug": {"slug": "files\n"},
    "no url": {"url": ""},
    "other scheme": {"url": "ftp://host/mcp"},
    "file": {"url": "file:///etc/passwd"},
    "no host": {"url": "http:///mcp"},
    "port": {"url": "http://host:99999/mcp"},
    "password in url": {"url": "http://user:pass@host/mcp"},
    "fragment": {"url": "http://host/mcp#x"},
    "blank in url": {"url": "http://ho st/mcp"},
    "line in url": {"url": "http://host/mcp\r\nX: y"},
    "long url": {"url": "http://host/" + "x" * 2000},
    "transport": {"transport": "stdio"},
    "auth kind": {"auth": {"kind": "magic"}},
    "auth without kind": {"auth": {"token": SECRET}},
    "auth with more": {"auth": {**BEARER, "more": 1}},
    "empty token": {"auth": {"kind": "bearer", "token": ""}},
    "blank token": {"auth": {"kind": "bearer", "token": " x"}},
    "line in token": {"auth": {"kind": "bearer", "token": "x\ny"}},
    "token of other letters": {"auth": {"kind": "bearer", "token": "geheim-ü"}},
    "long token": {"auth": {"kind": "bearer", "token": "x" * 8193}},
    "header name": {"auth": {"kind": "api_key", "header": "X Key", "value": SECRET}},
    "header of http": {"auth": {"kind": "api_key", "header": "Host", "value": SECRET}},
    "header of mcp": {"auth": {"kind": "api_key", "header": "Mcp-Session-Id", "value": SECRET}},
    "length header": {"auth": {"kind": "headers", "headers": {"Content-Length": "1"}}},
    "no headers": {"auth": {"kind": "headers", "headers": {}}},
    "many headers": {"auth": {"kind": "headers", "headers": {f"X-{n}": "x" for n in range(21)}}},
    "one header twice": {"auth": {"kind": "headers", "headers": {"X-Key": "x", "x-key": "y"}}},
    "header value": {"auth": {"kind": "headers", "headers": {"X-Key": "x\0y"}}},
    "no client id": {"auth": {"kind": "client_credentials", "client_id": "", "client_secret": SECRET}},
    "token url": {"auth": {"kind": "client_credentials", "client_id": "x", "client_secret": "y", "token_url": "x"}},
    "authorization url": {"auth": {"kind": "oauth", "authorization_url": "javascript:alert(1)"}},
    "urls without client": {"auth": {"kind": "oauth", "authorization_url": URL, "token_url": URL}},
    "issuer": {"auth": {"kind": "oauth", "client_id": "x", "issuer": "somewhere"}},
    "issuer of no client": {"auth": {"kind": "oauth", "issuer": URL}},
    "broken url": {"url": "http://["},
    "description": {"description": "x" * 1001},
    "invisible description": {"description": "a\u202eb"},
    "availability": {"availability": "sometimes"},
    "approval": {"approval": "maybe"},
    "tool": {"tools": {"": {}}},
    "tool policy": {"tools": {"a": {"approval": "maybe"}}},
    "tool effect": {"tools": {"a": {"effect": "twice"}}},
    "many tools": {"allow": [f"t{n}" for n in range(501)]},
    "long tool": {"deny": ["x" * 129]},
    "allow is a text": {"allow": "read"},
    "no time": {"idle_seconds": 0},
    "long time": {"total_seconds": 3601},
    "endless": {"total_seconds": 1e999},
    "small result": {"result_bytes_max": 1},
    "large result": {"result_bytes_max": (10 << 20) + 1},
    "unknown field": {"surprise": 1},
    "enabled is a text": {"enabled": "yes"},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD)
async def test_what_cannot_be_is_refused_and_nothing_is_written(
    world: World, admin: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    content = msgspec.json.encode({"slug": "files", "url": URL, **fields}).replace(b"null", b"1e999")
    headers = {"Content-Type": "application/json"}
    answer = await admin.post(ADMIN, content=content, headers=headers)
    assert code_of(answer) == (400, "invalid_request")
    assert not world.database.mcp.servers
    if fields.get("auth", {}).get("token", "").isascii():
        assert SECRET not in answer.text

    await add(admin, "known")
    before = dict(world.database.mcp.servers)
    content = msgspec.json.encode(fields).replace(b"null", b"1e999")
    assert code_of(await admin.patch(f"{ADMIN}/known", content=content, headers=headers)) == (400, "invalid_request")
    assert world.database.mcp.servers == before


async def test_a_slug_that_is_taken_is_a_conflict(admin: httpx.AsyncClient) -> None:
    await add(admin, "one")
    await add(admin, "two")
    assert code_of(await admin.post(ADMIN, json={"slug": "one", "url": URL})) == (409, "slug_taken")
    assert code_of(await admin.patch(f"{ADMIN}/two", json={"slug": "one"})) == (409, "slug_taken")


# --- users ------------------------------------------------------------------------------------


async def test_users_see_what_their_chats_may_use_and_no_more_of_it_than_that(
    admin: httpx.AsyncClient, user: httpx.AsyncClient
) -> None:
    await add(admin, "files", description="All files", auth=BEARER)
    await add(admin, "always", availability="always")
    await add(admin, "off", availability="off")
    await add(admin, "disabled", enabled=False)
    assert (await user.get("/api/v1/mcp-servers")).json() == {
        "mcp_servers": [
            {"slug": "always", "description": "", "availability": "always", "sign_in": False},
            {"slug": "files", "description": "All files", "availability": "choice", "sign_in": False},
        ]
    }


async def test_a_chat_is_created_with_servers_that_may_be_used(
    world: World, admin: httpx.AsyncClient, user: httpx.AsyncClient
) -> None:
    await add(admin, "files")
    await add(admin, "off", availability="off")
    created = await user.post("/api/v1/chats", json={"mcp_servers": ["files"]})
    assert created.status_code == 201
    (row,) = world.database.chats.values()
    assert world.database.view(row).mcp_servers == ("files",)
    for slugs in (["off"], ["unknown"], ["files", "unknown"]):
        answer = await user.post("/api/v1/chats", json={"content": "hi", "mcp_servers": slugs})
        assert code_of(answer) == (404, "mcp_server_not_found")
    for bad in ("files", [1], [f"s{n}" for n in range(33)], None, ["\0"]):
        answer = await user.post("/api/v1/chats", json={"content": "hi", "mcp_servers": bad})
        assert code_of(answer) == (400, "invalid_request")
    assert len(world.database.chats) == 1


async def test_a_chat_keeps_what_it_has_and_gets_what_it_may_use(
    world: World, admin: httpx.AsyncClient, user: httpx.AsyncClient
) -> None:
    await add(admin, "files")
    await add(admin, "mail")
    chat = f"/api/v1/chats/{(await user.post('/api/v1/chats', json={'mcp_servers': ['files']})).json()['id']}"
    await admin.patch(f"{ADMIN}/files", json={"availability": "off"})
    assert (await user.patch(chat, json={"mcp_servers": ["files", "mail"]})).status_code == 200
    assert code_of(await user.patch(chat, json={"mcp_servers": ["unknown"]})) == (404, "mcp_server_not_found")
    answer = await user.post(f"{chat}/messages", json={"content": "hi", "mcp_servers": ["unknown"]})
    assert code_of(answer) == (404, "mcp_server_not_found")
    (row,) = world.database.chats.values()
    assert world.database.view(row).mcp_servers == ("files", "mail")
    assert row.messages == []


async def test_a_user_sees_where_the_login_is_good(
    world: World, admin: httpx.AsyncClient, user: httpx.AsyncClient
) -> None:
    await add(admin, "mail", auth={"kind": "oauth"})
    await add(admin, "files")
    (mail,) = [server for server in world.database.mcp.servers.values() if server.slug == "mail"]
    user_id = UUID((await user.get("/api/v1/me")).json()["user_id"])

    async def mine() -> dict[str, Any]:
        (only,) = (await user.get("/api/v1/me/mcp-servers")).json()["mcp_servers"]
        return {name: only[name] for name in ("slug", "signed_in", "refused")}

    assert await mine() == {"slug": "mail", "signed_in": False, "refused": False}
    await world.mcp_servers.keep_grant(Grant(server_id=mail.id, user_id=user_id, sealed=b""))
    assert await mine() == {"slug": "mail", "signed_in": True, "refused": False}
    grant = await world.mcp_servers.grant(mail.id, user_id)
    assert grant is not None
    await world.mcp_servers.refuse_grant(grant)
    assert await mine() == {"slug": "mail", "signed_in": False, "refused": True}


async def test_signing_in_begins_with_a_url_for_the_browser(
    world: World, admin: httpx.AsyncClient, user: httpx.AsyncClient
) -> None:
    await add(admin, "mail", auth={"kind": "oauth"})
    await add(admin, "disabled", auth={"kind": "oauth"}, enabled=False)
    answer = await user.post("/api/v1/me/mcp-servers/mail/login")
    assert (answer.status_code, answer.json()) == (200, {"url": "https://login.example/authorize"})
    for slug in ("unknown", "disabled"):
        assert code_of(await user.post(f"/api/v1/me/mcp-servers/{slug}/login")) == (404, "mcp_server_not_found")
    world.mcp_client.refusal = SignInFailed("it is away")
    assert code_of(await user.post("/api/v1/me/mcp-servers/mail/login")) == (409, "sign_in_failed")


async def test_signing_out_forgets_the_login(world: World, admin: httpx.AsyncClient, user: httpx.AsyncClient) -> None:
    await add(admin, "mail", auth={"kind": "oauth"})
    assert (await user.delete("/api/v1/me/mcp-servers/mail/login")).status_code == 204
    assert world.mcp_client.asked[-1][:2] == ("sign out", "mail")


# --- browsers ---------------------------------------------------------------------------------

HTML = {"Accept": "text/html,*/*;q=0.8"}


async def test_a_browser_is_sent_to_the_authorization_server_and_taken_back_without_a_token(world: World) -> None:
    async with world.client(None) as browser:
        begun = await browser.get("/oauth/mcp/sign-in/abc", headers=HTML)
        assert (begun.status_code, begun.headers["location"]) == (302, "https://login.example/authorize")
        done = await browser.get("/oauth/mcp/callback?state=s&code=c&iss=https://issuer", headers=HTML)
    assert done.status_code == 200
    assert done.headers["content-type"].startswith("text/html")
    assert done.headers["referrer-policy"] == "no-referrer"
    assert "files" in done.text
    assert world.mcp_client.asked == [("link", "abc", None), ("finish", "s", "c", "https://issuer", None)]


async def test_a_browser_in_which_somebody_is_signed_in_says_who(world: World) -> None:
    async with world.client(None) as browser:
        answer = await browser.post("/api/v1/session", json={"token": await world.token("ada")})
        ada = UUID(answer.json()["user_id"])
        await browser.get("/oauth/mcp/sign-in/abc", headers=HTML)
        await browser.get("/oauth/mcp/callback?state=s&code=c", headers=HTML)
        await browser.delete("/api/v1/session", headers={"Sec-Fetch-Site": "same-origin"})
        browser.cookies.set(browser_cookie(answer), "a session that has ended")
        await browser.get("/oauth/mcp/sign-in/abc", headers=HTML)
    assert [asked[-1] for asked in world.mcp_client.asked] == [ada, ada, None]


def browser_cookie(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"].partition("=")[0]


async def test_an_authorization_server_reads_who_the_cluster_is(world: World) -> None:
    async with world.client(None) as reader:
        answer = await reader.get("/oauth/mcp/client")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == world.mcp_client.client_document()


async def test_a_refusal_is_told_and_the_state_used_up(world: World) -> None:
    async with world.client(None) as browser:
        answer = await browser.get("/oauth/mcp/callback?state=s&error=<script>alert(1)</script>")
    assert answer.status_code == 400
    assert "<script>" not in answer.text
    assert "alert(1)" in answer.text
    assert world.mcp_client.asked == [("drop", "s")]


async def test_what_somebody_else_says_of_a_sign_in_is_not_shown(world: World) -> None:
    async with world.client(None) as browser:
        answer = await browser.get("/oauth/mcp/callback?state=s&error=call+0800+123&iss=https://evil.example")
    assert answer.status_code == 400
    assert "0800" not in answer.text
    assert world.mcp_client.asked == [("drop", "s")]


async def test_p10_a_state_that_nobody_knows_counts_against_its_address() -> None:
    """Each costs the database a look, and anybody may make them up."""
    async with serving(World(auth_failures_per_second=0.01)) as world, world.client(None) as browser:
        world.mcp_client.refusal = LoginNotFound("it is over")
        answers = [await browser.get(f"/oauth/mcp/callback?state={number}&code=c") for number in range(3)]
        assert [code_of(answer) for answer in answers] == [(404, "login_not_found"), *[(429, "too_many")] * 2]
        assert len(world.mcp_client.asked) == 1


@pytest.mark.parametrize("query", ["", "?code=c", "?state=", f"?state={'s' * 5000}&code=c"])
async def test_a_callback_without_a_state_is_refused(world: World, query: str) -> None:
    async with world.client(None) as browser:
        assert code_of(await browser.get(f"/oauth/mcp/callback{query}")) == (400, "invalid_request")
    assert world.mcp_client.asked == []


async def test_a_state_that_is_not_known_is_not_found(world: World) -> None:
    world.mcp_client.refusal = LoginNotFound("it is over")
    async with world.client(None) as browser:
        assert code_of(await browser.get("/oauth/mcp/callback?state=s&code=c")) == (404, "login_not_found")
