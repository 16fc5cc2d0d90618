"""Signing in at MCP servers: users by OAuth, on whatever replica they come back; grants that are refreshed once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import httpx
import msgspec
import pytest
import trio
from mcp_world import (
    ALICE,
    BOB,
    BROWSERS_URL,
    McpWorld,
    TestServer,
    mcp_world,
    test_server,
    text_of,
)
from msgspec.structs import replace

from chatcluster.mcp_errors import LoginNotFound, SignInFailed, SignInOfAnother
from chatcluster.ports import ClientCredentialsAuth, Grant, Login, McpServer, OAuthAuth, SignedInAt, SignInRequired
from chatcluster.secrets import place_of
from chatcluster.tools import mcp_credentials, mcp_discovery, mcp_oauth
from chatcluster.tools.mcp import McpTools
from chatcluster.tools.mcp_link import McpFailed, McpLink
from chatcluster.tools.mcp_lists import ToolLists
from chatcluster.tools.mcp_oauth import OAuthClient, Refused, SignIn, Tokens
from chatcluster.tools.mcp_sign_in_links import TICKET_PLACE, digest_of
from chatcluster.tools.mcp_wire import Fetched, Listed, Trouble


@pytest.fixture(scope="module")
def shared_server() -> Iterator[TestServer]:
    with test_server() as server:
        yield server


@pytest.fixture
async def server(shared_server: TestServer) -> TestServer:
    await shared_server.control(
        expires_in=3600,
        refuses=False,
        registers=True,
        revoke_all=True,
        needs="",
        reads_documents=False,
        names_itself=False,
        no_tokens=False,
        issuer="",
    )
    return shared_server


@pytest.fixture
async def world(forked: None) -> AsyncIterator[McpWorld]:
    async with mcp_world() as world:
        yield world


@pytest.fixture
async def mail(world: McpWorld, server: TestServer) -> McpServer:
    return await world.add("mail", server.url + "/oauth/mcp", OAuthAuth())


async def come_back(url: str) -> dict[str, str]:
    """What the browser brings back from the authorization server."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(url)
    assert answer.status_code == 302, answer.text
    location = answer.headers["location"]
    assert location.startswith(f"{BROWSERS_URL}/oauth/mcp/callback?")
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


async def sign_in(world: McpWorld, server: McpServer, tools: McpTools | None = None) -> SignedInAt:
    back = await come_back(await world.tools.begin_sign_in(server, ALICE))
    return await (tools or world.tools).finish_sign_in(back["state"], back["code"], back.get("iss"))


async def peek(world: McpWorld, **options: object) -> bool:
    """Whether a call in a new turn gets through."""
    async with world.turn("mail", **options) as turn:  # type: ignore[arg-type]
        await turn.names()
        try:
            return not (await turn.run("mail__peek")).is_error
        except SignInRequired:
            return False


async def test_a_user_who_has_signed_in_has_the_tools_and_nobody_else(world: McpWorld, mail: McpServer) -> None:
    assert await sign_in(world, mail) == ("mail", ALICE)
    assert await peek(world)
    assert not await peek(world, owner_id=BOB)


async def test_who_has_not_signed_in_goes_without_the_tools_and_is_told_where(world: McpWorld, mail: McpServer) -> None:
    async with world.turn("mail") as turn:
        assert await turn.names() == []
        (notice,) = turn.tools.notices
    assert (notice.code, notice.source) == ("mcp_sign_in", "mail")
    link = re.search(rf"{BROWSERS_URL}/oauth/mcp/sign-in/([0-9a-f]+)", notice.message)
    assert link is not None
    back = await come_back(await world.tools.begin_sign_in_by_link(link[1]))
    await world.tools.finish_sign_in(back["state"], back["code"], back.get("iss"))
    assert await peek(world)


async def test_the_request_has_pkce_a_state_and_names_the_resource(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await sign_in(world, mail)
    asked = (await server.stats())["seen"]["authorize"]
    assert asked["code_challenge_method"] == "S256"
    assert len(asked["state"]) >= 32
    assert asked["resource"] == server.url + "/oauth/mcp"
    assert asked["scope"] == "all"


async def test_any_replica_takes_the_callback(world: McpWorld, mail: McpServer) -> None:
    other = world.replica()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        await sign_in(world, mail, other)
        nursery.cancel_scope.cancel()
    assert await peek(world)


async def test_a_callback_works_once_and_only_with_the_state_that_was_given_out(
    world: McpWorld, mail: McpServer
) -> None:
    back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
    with pytest.raises(LoginNotFound):
        await world.tools.finish_sign_in("another state", back["code"], None)
    await world.tools.finish_sign_in(back["state"], back["code"], None)
    with pytest.raises(LoginNotFound):
        await world.tools.finish_sign_in(back["state"], back["code"], None)


async def test_an_answer_of_another_authorization_server_is_refused(world: McpWorld, mail: McpServer) -> None:
    back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
    with pytest.raises(SignInFailed):
        await world.tools.finish_sign_in(back["state"], back["code"], "https://evil.example")
    assert not await peek(world)


async def test_a_wrong_code_signs_nobody_in(world: McpWorld, mail: McpServer) -> None:
    back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
    with pytest.raises(SignInFailed, match="invalid_grant"):
        await world.tools.finish_sign_in(back["state"], "a code of mine", None)


async def test_whoever_is_signed_in_on_the_page_goes_on_with_no_sign_in_of_somebody_else(
    world: McpWorld, mail: McpServer
) -> None:
    ticket = world.tools.credentials.links.link(mail, ALICE).rpartition("/")[2]
    with pytest.raises(SignInOfAnother):
        await world.tools.begin_sign_in_by_link(ticket, visitor=BOB)
    back = await come_back(await world.tools.begin_sign_in_by_link(ticket, visitor=ALICE))
    with pytest.raises(SignInOfAnother):
        await world.tools.finish_sign_in(back["state"], back["code"], None, visitor=BOB)
    assert not await peek(world)
    back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
    await world.tools.finish_sign_in(back["state"], back["code"], None, visitor=ALICE)
    assert await peek(world)


async def test_a_link_works_once(world: McpWorld, mail: McpServer) -> None:
    ticket = world.tools.credentials.links.link(mail, ALICE).rpartition("/")[2]
    await world.tools.begin_sign_in_by_link(ticket)
    for again in (ticket, ticket.upper()):
        with pytest.raises(LoginNotFound, match="used already"):
            await world.tools.begin_sign_in_by_link(again)
    with pytest.raises(LoginNotFound):
        await world.tools.finish_sign_in(ticket, "code", None)


async def test_a_link_whose_sign_in_does_not_begin_works_later(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    ticket = world.tools.credentials.links.link(mail, ALICE).rpartition("/")[2]
    await server.control(registers=False)
    with pytest.raises(SignInFailed):
        await world.tools.begin_sign_in_by_link(ticket)
    await server.control(registers=True)
    assert await world.tools.begin_sign_in_by_link(ticket)


async def test_a_link_of_somebody_else_or_a_damaged_one_is_none(world: McpWorld, mail: McpServer) -> None:
    for ticket in ("", "zz", "00" * 40, world.tools.credentials.links.link(mail, ALICE)[-60:]):
        with pytest.raises(LoginNotFound):
            await world.tools.begin_sign_in_by_link(ticket)


async def test_a_configured_client_is_not_registered(world: McpWorld, server: TestServer) -> None:
    await server.control(registers=False)
    before = await server.count("registered")
    secrets = {"client_secret": "configured-secret-1234"}
    mail = await world.add("mail", server.url + "/oauth/mcp", OAuthAuth("configured"), secrets)
    await sign_in(world, mail)
    assert await peek(world)
    assert await server.count("registered") == before


async def test_without_a_client_where_none_can_register_the_error_says_what_to_do(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await server.control(registers=False)
    with pytest.raises(SignInFailed, match="client ID"):
        await world.tools.begin_sign_in(mail, ALICE)


@pytest.mark.parametrize("path", ["/silent", "/html", "/broken", "/rubbish"])
async def test_a_server_that_is_none_cannot_be_signed_in_at(
    world: McpWorld, server: TestServer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await world.add("bad", f"http://127.0.0.1:1{path}", OAuthAuth())
    with pytest.raises(SignInFailed):
        await world.tools.begin_sign_in(bad, ALICE)


async def test_who_signs_in_is_told_where_it_is_the_process_here_that_is_not_there(
    world: McpWorld, mail: McpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def started(_: McpLink) -> None:
        await trio.lowlevel.checkpoint()
        raise McpFailed(Trouble.UNREACHABLE, "the MCP process is not there")

    monkeypatch.setattr(McpLink, "started", started)
    monkeypatch.setattr(mcp_credentials, "DISCOVERY_SECONDS", 0.0)
    with pytest.raises(SignInFailed, match="the MCP process is not there"):
        await world.tools.begin_sign_in(mail, ALICE)


# --- refreshing -------------------------------------------------------------------------------


async def expire(world: McpWorld, mail: McpServer, seconds_left: float = 5.0) -> Grant:
    """Let the access token end in so many seconds."""
    grant = await world.servers.grant(mail.id, ALICE)
    assert grant is not None
    await world.servers.keep_grant(replace(grant, seconds_left=seconds_left))
    return grant


async def test_a_token_is_refreshed_before_it_ends(world: McpWorld, mail: McpServer, server: TestServer) -> None:
    await sign_in(world, mail)
    before = await server.count("token refresh_token")
    assert await peek(world)
    assert await server.count("token refresh_token") == before
    await expire(world, mail)
    assert await peek(world)
    assert await server.count("token refresh_token") == before + 1


async def test_many_that_need_a_fresh_token_refresh_it_once(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await sign_in(world, mail)
    assert await peek(world)
    await expire(world, mail)
    before = await server.count("token refresh_token")
    replicas = [world.tools, world.replica(), world.replica()]
    async with trio.open_nursery() as running:
        for replica in replicas[1:]:
            running.start_soon(replica.run)
        async with trio.open_nursery() as nursery:
            for replica in replicas * 3:
                nursery.start_soon(replica.test, mail, ALICE)
        running.cancel_scope.cancel()
    assert await server.count("token refresh_token") == before + 1
    assert await server.count("reused") == 0
    assert await peek(world)


async def test_a_token_that_the_server_refuses_is_refreshed_once_and_the_call_runs(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await sign_in(world, mail)
    async with world.turn("mail") as turn:
        assert not (await turn.call("mail__peek")).is_error
        await server.control(revoke=True)
        assert not (await turn.run("mail__peek")).is_error
    await server.control(revoke=True)
    assert await peek(world)


async def test_when_nothing_is_accepted_any_more_the_user_is_asked_to_sign_in(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await sign_in(world, mail)
    async with world.turn("mail") as turn:
        await turn.names()
        await server.control(revoke_all=True)
        with pytest.raises(SignInRequired):
            await turn.run("mail__peek")
    (grant,) = await world.servers.grants(ALICE)
    assert grant.refused
    before = await server.count("token refresh_token")
    assert not await peek(world)
    assert await server.count("token refresh_token") == before
    await sign_in(world, mail)
    assert await peek(world)


async def test_a_server_that_wants_a_wider_scope_has_the_user_asked_for_it(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await sign_in(world, mail)
    async with world.turn("mail") as turn:
        await turn.names()
        await server.control(needs="write")
        before = await server.count("token refresh_token")
        with pytest.raises(SignInRequired):
            await turn.run("mail__peek")
    assert await server.count("token refresh_token") == before, "no fresh token has another scope"
    await sign_in(world, mail)
    assert (await server.stats())["seen"]["authorize"]["scope"] == "all write"
    assert await peek(world)


async def test_a_user_who_gives_less_than_the_server_wants_is_not_asked_again_and_again(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await server.control(grants="all")
    await sign_in(world, mail)
    async with world.turn("mail") as turn:
        await turn.names()
        await server.control(needs="write")
        with pytest.raises(SignInRequired):
            await turn.run("mail__peek")
    await server.control(needs="")
    await sign_in(world, mail)
    async with world.turn("mail") as turn:
        await turn.names()
        await server.control(needs="write")
        assert (await turn.run("mail__peek")).is_error
    await server.control(needs="")
    assert await peek(world), "the login is good for what it is for"


@pytest.mark.parametrize(
    ("challenge", "scope"),
    [
        ('Bearer error="insufficient_scope", scope="files:read files:write"', "files:read files:write"),
        ("Bearer scope=mail, error=insufficient_scope", "mail"),
        ('Bearer error="invalid_token", scope="all"', ""),
        ('Bearer error="insufficient_scope"', ""),
        ('Bearer error="insufficient_scope", my_scope="x"', ""),
        ("", ""),
    ],
)
def test_a_wider_scope_is_asked_for_where_the_server_says_which(challenge: str, scope: str) -> None:
    assert mcp_discovery.wider_scope(challenge) == scope


SIGN_IN = SignIn(verifier="v", redirect_uri="u", issuer="i", token_url="t", client=OAuthClient("c"), resource="r")
OF_TOOLS = "https://tools.example/.well-known/oauth-authorization-server"
TENANT = {"issuer": "https://login.example/one", "token_endpoint": "https://login.example/one/t"}
ROOT = {"issuer": "https://login.example", "token_endpoint": "https://login.example/t"}
RESOURCE = {"authorization_servers": ["https://login.example/one"]}
NAMED, WELL_KNOWN = "https://tools.example/meta", "https://tools.example/.well-known/oauth-protected-resource"
OPENID = "https://login.example/.well-known/openid-configuration/one"
OPENID_WITHIN = "https://login.example/one/.well-known/openid-configuration"


@pytest.mark.parametrize(
    "documents",
    [
        {NAMED: RESOURCE, OPENID_WITHIN: TENANT},
        {WELL_KNOWN: RESOURCE, OPENID_WITHIN: TENANT},
        {f"{WELL_KNOWN}/mcp": RESOURCE, OPENID: TENANT},
        {NAMED: RESOURCE, OPENID: ROOT, OPENID_WITHIN: TENANT},
    ],
)
async def test_the_authorization_server_is_found_wherever_it_describes_itself(documents: dict[str, Any]) -> None:
    """A document that is not where it was said to be, or is about another server, leaves the places behind it."""

    async def fetch(method: str, url: str, *_: object) -> Fetched:
        if method == "POST":
            return Fetched(1, 401, {"www-authenticate": f'Bearer resource_metadata="{NAMED}"'}, b"")
        return Fetched(1, 200 if url in documents else 404, {}, msgspec.json.encode(documents.get(url, {})))

    found = await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth("client"))
    assert (found.issuer, found.token_url) == ("https://login.example/one", "https://login.example/one/t")


def documents_of(documents: dict[str, Any], challenge: str) -> mcp_discovery.Fetch:
    """Servers that have these documents; one that is a text is what a place leads to."""

    async def fetch(method: str, url: str, *_: object) -> Fetched:
        if method == "POST":
            return Fetched(1, 401, {"www-authenticate": challenge}, b"")
        found = documents.get(url)
        if isinstance(found, str):
            return Fetched(1, 307, {"location": found}, b"")
        return Fetched(1, 404 if found is None else 200, {}, msgspec.json.encode(found))

    return fetch


@pytest.mark.parametrize(
    ("named", "documents"),
    [
        ("/meta", {NAMED: RESOURCE}),
        ("http://tools.example/meta", {WELL_KNOWN: RESOURCE}),
        ("ftp://tools.example/meta", {WELL_KNOWN: RESOURCE}),
        ("http://[", {WELL_KNOWN: RESOURCE}),
        (NAMED, {NAMED: "/other/", "https://tools.example/other/": RESOURCE}),
        (NAMED, {NAMED: "https://tools.example:8443/meta", WELL_KNOWN: RESOURCE}),
        (NAMED, {NAMED: "http://[", WELL_KNOWN: RESOURCE}),
        (NAMED, {NAMED: NAMED, WELL_KNOWN: RESOURCE}),
    ],
)
async def test_a_place_that_cannot_be_asked_leaves_the_others(named: str, documents: dict[str, Any]) -> None:
    """A server behind a proxy names itself by http; some name a path alone, or lead on to where the document is."""
    fetch = documents_of({OPENID: TENANT, **documents}, f'Bearer resource_metadata="{named}"')
    found = await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth("client"))
    assert found.token_url == TENANT["token_endpoint"]


@pytest.mark.parametrize(
    ("named", "resource"),
    [
        ("https://tools.example/mcp", "https://tools.example/mcp"),
        ("https://tools.example", "https://tools.example"),
        ("https://Tools.example/", "https://Tools.example/"),
        ("http://tools.example:8000/mcp", None),
        ("https://tools.example/mc", None),
        ("https://tools.example/mcp/deeper", None),
        ("https://tools.example?tenant=2", None),
        ("https://[", None),
        (7, None),
    ],
)
async def test_tokens_are_asked_for_the_server_that_gets_them_and_for_no_other(
    named: object, resource: str | None
) -> None:
    """Else a server could have itself given tokens for one whose name its own begins with."""
    fetch = documents_of({WELL_KNOWN: RESOURCE | {"resource": named}, OPENID: TENANT}, "")
    found = await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth("client"))
    assert found.resource == resource or (resource is None and found.resource == "https://tools.example/mcp")


@pytest.mark.parametrize(
    ("url", "named", "is_another"),
    [
        ("https://tools.example/mcp", "https://tools.exam", True),
        ("https://tools.example/mcp", "https://evil.example/mcp", True),
        ("http://127.0.0.1:9000/mcp", "http://localhost:9000/mcp", False),
        ("http://127.0.0.1:9000/mcp", "http://tools.example/mcp", True),
    ],
)
async def test_what_a_server_says_of_another_one_is_not_taken(url: str, named: str, is_another: bool) -> None:
    """RFC 9728"""
    place = url.replace("/mcp", "/.well-known/oauth-protected-resource")
    fetch = documents_of({place: RESOURCE | {"resource": named}, OPENID: TENANT}, "")
    if is_another:
        with pytest.raises(McpFailed, match="another one"):
            await mcp_discovery.discover(fetch, url, OAuthAuth("client"))
    else:
        assert (await mcp_discovery.discover(fetch, url, OAuthAuth("client"))).resource == url


@pytest.mark.parametrize(
    ("scope", "asked"), [("files", "files offline_access"), ("offline_access x", "offline_access x"), ("", "")]
)
async def test_a_login_is_asked_to_last_where_that_has_to_be_asked(scope: str, asked: str) -> None:
    """Else it ends within the hour, and the user signs in again and again."""
    lasting = TENANT | {"scopes_supported": ["openid", "offline_access"]}
    fetch = documents_of({WELL_KNOWN: RESOURCE, OPENID: lasting}, f'Bearer scope="{scope}"')
    found = await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth("client"))
    assert found.scope == asked
    configured = await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth("client", scope="mine"))
    assert configured.scope == "mine", "an administrator knows best"
    query = parse_qs(urlsplit(mcp_oauth.authorization_url(found, SIGN_IN, "state")).query)
    assert query.get("prompt") == (["consent"] if asked else None)


async def test_where_nobody_is_registered_a_document_says_who_the_cluster_is(
    world: McpWorld, mail: McpServer, server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.control(registers=False, reads_documents=True)
    with pytest.raises(SignInFailed, match="client ID"):  # who reads it has to be let in by https
        await world.tools.begin_sign_in(mail, ALICE)
    monkeypatch.setattr(world.tools.credentials.clients, "browsers_url", "https://chat.example")
    query = parse_qs(urlsplit(await world.tools.begin_sign_in(mail, ALICE)).query)
    document = world.tools.client_document()
    assert query["client_id"] == [document["client_id"]] == ["https://chat.example/oauth/mcp/client"]
    assert query["redirect_uri"] == document["redirect_uris"]
    assert document["token_endpoint_auth_method"] == "none"


async def test_an_answer_that_has_to_say_where_it_is_from_says_it(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await server.control(names_itself=True)
    back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
    with pytest.raises(SignInFailed, match="which authorization server"):
        await world.tools.finish_sign_in(back["state"], back["code"], None)
    assert await sign_in(world, mail) == ("mail", ALICE)


@pytest.mark.parametrize(
    ("documents", "auth", "issuer"),
    [
        ({}, OAuthAuth(), "https://tools.example"),
        ({OF_TOOLS: TENANT}, OAuthAuth(), "https://tools.example"),
        ({}, OAuthAuth("c", authorization_url="https://a.example/a", token_url="https://a.example/t"), ""),
    ],
)
async def test_a_server_that_says_nothing_gets_no_code_of_another_one(
    documents: dict[str, Any], auth: OAuthAuth, issuer: str
) -> None:
    """It may send the user on to one that says where the answer is from, with our client and our challenge."""
    found = await mcp_discovery.discover(documents_of(documents, ""), "https://tools.example/mcp", auth)
    assert found.issuer == issuer
    begun = replace(SIGN_IN, issuer=found.issuer)
    mcp_oauth.check_issuer(begun, None)
    if issuer:
        with pytest.raises(McpFailed, match="another authorization server"):
            mcp_oauth.check_issuer(begun, "https://login.example")
    else:
        mcp_oauth.check_issuer(begun, "https://login.example")


SECRET = {"client_secret": "configured-secret-1234"}


async def test_a_configured_client_is_shown_to_no_other_authorization_server(
    world: McpWorld, server: TestServer
) -> None:
    mail = await world.add("mail", f"{server.url}/oauth/mcp", OAuthAuth("configured"), SECRET)
    assert await sign_in(world, mail) == ("mail", ALICE)
    await server.control(issuer=server.url.replace("127.0.0.1", "localhost"))
    with pytest.raises(SignInFailed, match=f"configured for the authorization server {server.url}, .*localhost"):
        await world.tools.begin_sign_in(mail, ALICE)
    (known,) = await world.servers.servers()
    again = await world.change(known, auth=OAuthAuth("configured"))  # an administrator says that it is right
    assert await sign_in(world, again) == ("mail", ALICE)


async def test_nor_is_one_that_the_cluster_signs_in_with(world: McpWorld, server: TestServer) -> None:
    await world.add("own", f"{server.url}/own/mcp", ClientCredentialsAuth("configured"), SECRET)
    async with world.turn("own") as turn:
        assert not (await turn.call("own__peek")).is_error
    await server.control(issuer=server.url.replace("127.0.0.1", "localhost"), revoke=True)
    asked_before = await server.count("token client_credentials")
    async with world.turn("own") as turn:
        assert "configured for the authorization server" in text_of(await turn.call("own__peek"))
    assert await server.count("token client_credentials") == asked_before


async def test_an_administrator_may_say_which_authorization_server_knows_the_client(
    world: McpWorld, server: TestServer
) -> None:
    auth = OAuthAuth("configured", issuer="https://login.example")
    mail = await world.add("mail", f"{server.url}/oauth/mcp", auth, SECRET)
    with pytest.raises(SignInFailed, match=r"configured for the authorization server https://login\.example"):
        await world.tools.begin_sign_in(mail, ALICE)
    assert await sign_in(world, await world.change(mail, auth=replace(auth, issuer=server.url))) == ("mail", ALICE)


@pytest.mark.parametrize("said", ["{}", "{}/"])
async def test_its_name_is_the_same_with_a_slash_at_the_end_and_without(
    world: McpWorld, server: TestServer, said: str
) -> None:
    """As the page of an authorization server has it, and its own description may not (Auth0)."""
    auth = OAuthAuth("configured", issuer=said.format(server.url))
    mail = await world.add("mail", f"{server.url}/oauth/mcp", auth, SECRET)
    assert await sign_in(world, mail) == ("mail", ALICE)


@pytest.mark.parametrize(
    ("auth", "issuer"),
    [
        (OAuthAuth("c", issuer="https://login.example/one/"), "https://login.example/one"),
        (ClientCredentialsAuth("c", issuer="https://login.example/one"), "https://login.example/one"),
        (OAuthAuth("c"), "https://other.example"),
    ],
)
async def test_of_several_authorization_servers_the_one_that_knows_the_client_is_asked(
    auth: OAuthAuth | ClientCredentialsAuth, issuer: str
) -> None:
    named = {"authorization_servers": ["https://other.example", "https://login.example/one"]}
    fetch = documents_of({WELL_KNOWN: named, OPENID: TENANT}, "")
    assert (await mcp_discovery.discover(fetch, "https://tools.example/mcp", auth)).issuer == issuer


METHODS = "code_challenge_methods_supported"


@pytest.mark.parametrize(
    ("client_id", "said", "is_refused"),
    [
        ("", {METHODS: ["plain", "S256"]}, False),
        ("", {METHODS: ["plain"]}, True),
        ("", {METHODS: []}, True),
        ("", {METHODS: "S256"}, True),
        ("", {}, True),
        ("client", {}, False),
        ("client", {METHODS: ["plain"]}, True),
    ],
)
async def test_nobody_signs_in_where_a_stolen_code_would_do(
    client_id: str, said: dict[str, Any], is_refused: bool
) -> None:
    """A server that says nothing of PKCE is taken at the word of the administrator who has a client there."""
    fetch = documents_of({WELL_KNOWN: RESOURCE, OPENID: TENANT | said}, "")
    if is_refused:
        with pytest.raises(McpFailed, match="S256"):
            await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth(client_id))
    else:
        await mcp_discovery.discover(fetch, "https://tools.example/mcp", OAuthAuth(client_id))
    await mcp_discovery.discover(fetch, "https://tools.example/mcp", ClientCredentialsAuth("c"))


@pytest.mark.parametrize(
    ("redirect_uri", "kind"),
    [
        ("http://127.0.0.1:8000/oauth/mcp/callback", "native"),
        ("http://localhost:8000/oauth/mcp/callback", "native"),
        ("https://chat.example/oauth/mcp/callback", "web"),
    ],
)
def test_the_cluster_registers_as_what_it_is_where_browsers_find_it(redirect_uri: str, kind: str) -> None:
    """OpenID's servers take a web application at ``localhost`` for a mistake."""
    assert mcp_oauth.description(redirect_uri)["application_type"] == kind


async def test_what_is_only_meant_to_be_the_same_server_is_another_one(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    """Nor is what it says went wrong shown to the user."""
    for issuer in ("https://evil.example", f"{server.url}/", server.url.replace("http:", "HTTP:")):
        back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
        with pytest.raises(SignInFailed, match="another authorization server"):
            await world.tools.finish_sign_in(back["state"], back["code"], issuer)
        back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
        assert not await world.tools.drop_sign_in(back["state"], issuer)
    back = await come_back(await world.tools.begin_sign_in(mail, ALICE))
    assert await world.tools.drop_sign_in(back["state"], server.url)
    assert not await world.tools.drop_sign_in(back["state"], server.url), "it is over"


async def test_a_token_that_cannot_be_refreshed_now_is_used_to_its_end(
    world: McpWorld, mail: McpServer, server: TestServer
) -> None:
    await sign_in(world, mail)
    await expire(world, mail)
    await server.control(no_tokens=True)
    before = await server.count("token refresh_token")
    assert await peek(world)
    assert await server.count("token refresh_token") == before + 1, "and asked for once"


async def test_a_refusal_is_one_whatever_its_status() -> None:
    """Some say it with 200: the user would never be asked to sign in again."""

    async def fetch(*_: object) -> Fetched:
        return Fetched(1, 200, {}, b'{"error": "bad_refresh_token", "error_description": "It has expired."}')

    tokens = Tokens(access_token="a", refresh_token="r", token_url="t", client=OAuthClient("c"), resource="r")
    with pytest.raises(Refused, match="bad_refresh_token"):
        await mcp_oauth.refresh(fetch, tokens)


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error"])
async def test_a_server_that_has_no_token_now_ends_no_login(error: str) -> None:
    async def fetch(*_: object) -> Fetched:
        return Fetched(1, 200, {}, msgspec.json.encode({"error": error}))

    tokens = Tokens(access_token="a", refresh_token="r", token_url="t", client=OAuthClient("c"), resource="r")
    with pytest.raises(McpFailed, match=error) as raised:
        await mcp_oauth.refresh(fetch, tokens)
    assert raised.value.trouble is Trouble.UNREACHABLE


async def test_a_list_that_is_refused_is_read_with_fresh_tokens(mail: McpServer) -> None:
    """Some servers let everybody connect, and look at the token then."""
    renewed: list[UUID] = []

    class Door:
        async def session(self, *_: object) -> Any:
            async def list_tools() -> Listed:
                if not renewed:
                    raise McpFailed(Trouble.UNAUTHORIZED, "HTTP 401")
                return Listed(1, ())

            return SimpleNamespace(
                list_tools=list_tools, close=lambda: None, opened=SimpleNamespace(instructions="Look.")
            )

        async def renew(self, server: McpServer, *_: object) -> bool:
            renewed.append(server.id)
            return True

        async def started(self) -> None: ...

    door: Any = Door()
    assert (await ToolLists(door, door).look(mail, ALICE)).instructions == "Look."
    assert renewed == [mail.id]


async def test_a_login_at_another_host_is_not_shown_to_the_server(world: McpWorld, mail: McpServer) -> None:
    """Somebody came back from a sign-in while the server got another URL."""
    await sign_in(world, mail)
    (grant,) = await world.servers.grants(ALICE)
    place = place_of("mcp_grants", "sealed", grant.server_id, grant.user_id)
    tokens = msgspec.json.decode(world.keyring.open(grant.sealed, place), type=Tokens)
    moved = msgspec.structs.replace(tokens, resource="https://elsewhere.example/mcp")
    sealed = world.keyring.seal(msgspec.json.encode(moved), place)
    assert await world.servers.keep_grant(msgspec.structs.replace(grant, sealed=sealed))
    assert not await peek(world)
    (ended,) = await world.servers.grants(ALICE)
    assert ended.refused


async def test_who_signs_out_has_no_tools(world: McpWorld, mail: McpServer) -> None:
    await sign_in(world, mail)
    assert await peek(world)
    assert await world.tools.sign_out(mail, ALICE)
    assert not await peek(world)


@pytest.mark.parametrize("said", ['"nan"', '"inf"', "1e300", "-1e300", "0", "null", '"3600"', str(2**200)])
async def test_whatever_is_said_of_the_life_of_a_token_is_a_time_that_can_be_kept(said: str) -> None:
    """P10: else the user who signs in, and each turn that refreshes the login, meets an error of ours."""

    async def fetch(*_: object) -> Fetched:
        return Fetched(1, 200, {}, f'{{"access_token": "t", "expires_in": {said}}}'.encode())

    sign_in = SignIn(verifier="v", redirect_uri="u", issuer="i", token_url="t", client=OAuthClient("c"), resource="r")
    try:
        answer = await mcp_oauth.exchange(fetch, sign_in, "code")
    except McpFailed:
        return
    assert answer.expires_in is None or 0 <= answer.expires_in <= mcp_oauth.LIFETIME_SECONDS_MAX


async def test_what_another_version_keeps_of_a_sign_in_is_no_error_of_ours(world: McpWorld, mail: McpServer) -> None:
    """P10: a sign-in that was begun before an update, a link, and a server's secrets."""
    credentials = world.tools.credentials
    keyring, servers = world.keyring, world.servers
    state, other = "state", b'{"hologram": 1}'
    digest = digest_of(state)
    await servers.begin_login(
        Login(
            state_digest=digest,
            server_id=mail.id,
            user_id=ALICE,
            sealed=keyring.seal(other, place_of("mcp_logins", "sealed", digest.hex())),
        ),
        seconds=60,
    )
    with pytest.raises(SignInFailed):
        await credentials.finish_sign_in(state, "code", None)
    with pytest.raises(LoginNotFound):
        credentials.links.ticket(keyring.seal(other, TICKET_PLACE).hex())
    sealed = keyring.seal(b'{"token": {"hologram": 1}}', place_of("mcp_servers", "sealed", mail.id))
    with pytest.raises(McpFailed):
        credentials.secrets_of(msgspec.structs.replace(mail, sealed=sealed))


async def test_tokens_are_stored_sealed(world: McpWorld, mail: McpServer) -> None:
    await sign_in(world, mail)
    (grant,) = await world.servers.grants(ALICE)
    assert b"access-" not in grant.sealed
    assert b"refresh-" not in grant.sealed
