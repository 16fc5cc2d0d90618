"""Sessions of browsers (P9): how one signs in, what a cookie may do and from where, and how a session ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from web_world import World, client_of, error_code, serving, until_broken_off

from chatcluster import tokens
from chatcluster.web.sessions import site_of

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
SESSION = "/api/v1/session"


@asynccontextmanager
async def signed_in(world: World, user: str = "ada", *, admin: bool = False) -> AsyncIterator[httpx.AsyncClient]:
    """A browser with a session of this user, which says with each request that its own page made it."""
    async with world.client(None) as browser:
        browser.headers.update(OWN_PAGE)
        answer = await browser.post(SESSION, json={"token": await world.token(user, admin=admin)})
        assert answer.status_code == 201, answer.text
        yield browser


def cookie_of(answer: httpx.Response) -> tuple[str, str, set[str]]:
    """Name, value and attributes."""
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    name, _, value = pair.partition("=")
    return name, value, set(attributes)


class TestSigningIn:
    async def test_a_token_becomes_a_cookie_that_no_script_and_no_other_port_sees(self) -> None:
        async with serving(World()) as world, world.client(None) as browser:
            answer = await browser.post(SESSION, json={"token": await world.token("ada", admin=True)})
            name, secret, attributes = cookie_of(answer)
            assert name == f"chatcluster-{world.url.rpartition(':')[2]}"
            assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= attributes
            assert "Secure" not in attributes
            assert len(secret) >= 43
            told = answer.json()
            assert (told["name"], told["admin"], told["kind"]) == ("ada", True, "session")
            assert told["expires_at"] > told["idle_expires_at"]
            assert (await browser.get(SESSION)).json()["name"] == "ada"
            assert (await browser.get("/api/v1/me")).json()["name"] == "ada"
            assert secret.encode() not in b"".join(world.database.kept.browsers.sessions), "only a digest is kept"

    @pytest.mark.parametrize("how", ["proxy", "setting"])
    async def test_on_https_the_cookie_is_bound_to_host_and_scheme(self, how: str) -> None:
        world = World(public_url="https://chat.example" if how == "setting" else "")
        headers = {"Host": "chat.example"} | ({"X-Forwarded-Proto": "https"} if how == "proxy" else {})
        async with serving(world), world.client(None) as browser:
            answer = await browser.post(SESSION, json={"token": await world.token()}, headers=headers)
            name, secret, attributes = cookie_of(answer)
            assert name == "__Host-chatcluster"
            assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= attributes
            assert not any(attribute.startswith("Domain") for attribute in attributes)
            headers["Cookie"] = f"other=1; {name}={secret}"
            assert (await browser.get(SESSION, headers=headers)).json()["name"] == "ada"
            assert error_code(await browser.get(SESSION, headers={"Cookie": headers["Cookie"]})) == "invalid_token"

    @pytest.mark.parametrize(
        "body", [{}, {"token": 1}, {"token": "x", "code": "x"}, {"token": None}, {"password": "x"}, [], "x"]
    )
    async def test_what_is_neither_token_nor_code_opens_nothing(self, body: Any) -> None:
        async with serving(World()) as world, world.client(None) as browser:
            answer = await browser.post(SESSION, json=body)
            assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
            assert not world.database.kept.browsers.sessions

    async def test_a_wrong_token_and_a_wrong_code_are_refused_and_counted_against_their_address(self) -> None:
        async with serving(World(auth_failures_per_second=0.1)) as world, world.client(None) as browser:
            codes = []
            for body in ({"token": tokens.generate().plaintext}, {"code": "x" * 43}, {"token": "ccl_"}, {"code": ""}):
                answer = await browser.post(SESSION, json=body)
                assert "set-cookie" not in answer.headers
                codes.append(error_code(answer))
            assert codes[0] == "invalid_token"
            assert set(codes[1:]) <= {"invalid_token", "invalid_code", "too_many"}
            assert "too_many" in codes
            assert not world.database.kept.browsers.sessions

    async def test_made_up_cookies_end_nothing_and_are_counted_against_their_address(self) -> None:
        async with serving(World(auth_failures_per_second=0.1)) as world, world.client(None) as browser:
            name = cookie_of(await browser.post(SESSION, json={"token": await world.token()}))[0]
            browser.cookies.clear()
            made_up = [{"Cookie": f"{name}={tokens.generate_secret().plaintext}", **OWN_PAGE} for _ in range(4)]
            answers = [await browser.delete(SESSION, headers=headers) for headers in made_up]
            assert answers[0].status_code == 204
            assert error_code(answers[-1]) == "too_many"
            assert len(world.database.kept.browsers.sessions) == 1

    async def test_a_page_of_others_signs_nobody_in(self) -> None:
        async with serving(World()) as world, world.client(None) as browser:
            token = await world.token()
            for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://x"}):
                answer = await browser.post(SESSION, json={"token": token}, headers=headers)
                assert (answer.status_code, error_code(answer)) == (403, "cross_origin")

    async def test_who_signs_in_anew_ends_the_session_before(self) -> None:
        async with serving(World()) as world, signed_in(world) as browser:
            before = {cookie.name: cookie.value or "" for cookie in browser.cookies.jar}
            assert (await browser.post(SESSION, json={"token": await world.token("bob")})).status_code == 201
            assert (await browser.get(SESSION)).json()["name"] == "bob"
            async with world.client(None, cookies=before) as old:
                assert error_code(await old.get(SESSION)) == "invalid_session"


class TestCodes:
    async def test_a_code_of_a_token_signs_in_once(self) -> None:
        async with client_of(World()) as bearer:
            made = await bearer.post("/api/v1/session/codes")
            assert made.status_code == 201
            code = made.json()["code"]
            assert made.json()["path"] == f"/#code={code}"
            async with httpx.AsyncClient(base_url=bearer.base_url) as browser:
                assert (await browser.post(SESSION, json={"code": code})).status_code == 201
                assert (await browser.get(SESSION)).json()["name"] == "ada"
            async with httpx.AsyncClient(base_url=bearer.base_url) as late:
                again = await late.post(SESSION, json={"code": code})
                assert (again.status_code, error_code(again)) == (401, "invalid_code")

    async def test_a_session_makes_no_codes(self) -> None:
        async with serving(World()) as world, signed_in(world) as browser:
            answer = await browser.post("/api/v1/session/codes")
            assert (answer.status_code, error_code(answer)) == (403, "forbidden")


class TestWrites:
    """With a cookie they come from the own page alone; a token needs no page."""

    ALLOWED: tuple[dict[str, str], ...] = (OWN_PAGE, {"Origin": "OWN"}, {"Origin": "OWN", **OWN_PAGE})
    REFUSED: tuple[dict[str, str], ...] = (
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "OWN"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://[::1"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "https://OWN"},
        {"Origin": "OWN.evil.example"},
        {"Referer": "OWN/"},
    )

    async def test_each_is_refused_unless_the_browser_says_that_it_is_ours(self) -> None:
        async with serving(World()) as world, signed_in(world) as browser:
            del browser.headers["Sec-Fetch-Site"]
            for cases, status in ((self.ALLOWED, 201), (self.REFUSED, 403)):
                for case in cases:
                    headers = {name: value.replace("https://OWN", world.url.replace("http", "https")) for name, value
                               in case.items()}  # fmt: skip
                    headers = {name: value.replace("OWN", world.url) for name, value in headers.items()}
                    answer = await browser.post("/api/v1/chats", json={}, headers=headers)
                    assert answer.status_code == status, (case, answer.text)
                    assert status == 201 or error_code(answer) == "cross_origin"
            for method in ("PATCH", "DELETE"):
                answer = await browser.request(method, f"/api/v1/chats/{'0' * 8}", json={})
                assert answer.status_code in (403, 405), method
            assert (await browser.get("/api/v1/chats")).status_code == 200, "reading needs no such word"

    async def test_a_token_wins_over_a_cookie_and_needs_no_page(self) -> None:
        async with serving(World()) as world, signed_in(world) as browser:
            bearer = {"Authorization": f"Bearer {await world.token('bob')}", "Sec-Fetch-Site": "cross-site"}
            assert (await browser.get("/api/v1/me", headers=bearer)).json()["name"] == "bob"
            assert (await browser.post("/api/v1/chats", json={}, headers=bearer)).status_code == 201
            wrong = {"Authorization": "Bearer ccl_wrong"}
            assert error_code(await browser.get("/api/v1/me", headers=wrong)) == "invalid_token"

    async def test_another_origin_may_be_named_by_the_setting(self) -> None:
        world = World(public_url="https://chat.example")
        async with serving(world), signed_in(world) as browser:
            del browser.headers["Sec-Fetch-Site"]
            named = {"Origin": "https://chat.example"}
            assert (await browser.post("/api/v1/chats", json={}, headers=named)).status_code == 201


class TestEnds:
    async def test_signing_out_ends_it_takes_the_cookie_away_and_breaks_its_streams_off(self) -> None:
        world = World(sse_heartbeat_seconds=0.05)
        async with serving(world), signed_in(world) as browser:
            kept = {cookie.name: cookie.value or "" for cookie in browser.cookies.jar}
            async with browser.stream("GET", "/api/v1/watch") as stream:
                await world.watches.next_reader()
                answer = await browser.delete(SESSION)
                assert answer.status_code == 204
                assert "Max-Age=0" in cookie_of(answer)[2]
                await until_broken_off(stream)
            assert not browser.cookies
            async with world.client(None, cookies=kept) as old:
                assert error_code(await old.get("/api/v1/chats")) == "invalid_session"
            assert (await browser.delete(SESSION)).status_code == 204, "there is nothing to end, and that is no error"

    async def test_a_page_of_others_signs_nobody_out(self) -> None:
        async with serving(World()) as world, signed_in(world) as browser:
            answer = await browser.delete(SESSION, headers={"Sec-Fetch-Site": "cross-site"})
            assert error_code(answer) == "cross_origin"
            assert (await browser.get(SESSION)).status_code == 200

    async def test_it_ends_with_its_token(self) -> None:
        world = World(sse_heartbeat_seconds=0.05)
        async with serving(world), signed_in(world) as browser:
            async with (
                browser.stream("GET", "/api/v1/watch") as stream,
                signed_in(world, "root", admin=True) as root,
            ):
                await world.watches.next_reader()
                token_id = next(token.id for token in await world.accounts.tokens() if token.user_name == "ada")
                assert (await root.delete(f"/api/v1/tokens/{token_id}")).status_code == 204
                await until_broken_off(stream)
            assert error_code(await browser.get(SESSION)) == "invalid_session"

    @pytest.mark.parametrize("which", ["idle", "absolute"])
    async def test_it_ends_by_itself(self, which: str) -> None:
        world = World(session_idle_hours=1.0, session_hours_max=3.0)
        async with serving(world), signed_in(world) as browser:
            (row,) = world.database.kept.browsers.sessions.values()
            if which == "idle":
                row.last_used_at -= timedelta(hours=1)
            else:
                row.expires_at -= timedelta(hours=3)
            browser.cookies.clear()
            (digest,) = world.database.kept.browsers.sessions
            assert await world.sessions.authenticate(digest) is None

    async def test_a_cookie_that_was_made_up_is_no_session(self) -> None:
        async with serving(World()) as world:
            name = f"chatcluster-{world.url.rpartition(':')[2]}"
            for value in ("", "x", "x" * 43, "\u00e9", "a" * 5000):
                async with httpx.AsyncClient(base_url=world.url) as browser:
                    answer = await browser.get(SESSION, headers=[(b"cookie", f"{name}={value}".encode("latin-1"))])
                    assert error_code(answer) == "invalid_session", value


@pytest.mark.parametrize(
    ("host", "forwarded", "public_url", "name"),
    [
        (b"127.0.0.1:8000", b"", "", "chatcluster-8000"),
        (b"[::1]:9000", b"", "", "chatcluster-9000"),
        (b"chat.example", b"", "", "chatcluster-80"),
        (b"chat.example", b"https", "", "__Host-chatcluster"),
        (b"chat.example", b"https, http", "", "__Host-chatcluster"),
        (b"chat.example", b"http", "", "chatcluster-80"),
        (b"chat.example", b"", "https://chat.example", "__Host-chatcluster"),
        (b"replica:8100", b"", "https://chat.example", "chatcluster-8100"),
        (b"x; Path=/evil\r\n", b"", "", "chatcluster-80"),
        (b"host:99999999", b"", "", "chatcluster-80"),
        (b"", b"", "", "chatcluster-80"),
    ],
)
def test_the_cookies_name_follows_the_address(host: bytes, forwarded: bytes, public_url: str, name: str) -> None:
    scope: Any = {"headers": [(b"host", host), (b"x-forwarded-proto", forwarded)]}
    assert site_of(scope, public_url).cookie_name == name
