"""Tokens, users and administrators (P9), and what they may."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from web_world import World, client_of, error_code, serving, until_broken_off

from chatcluster import tokens
from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable, TooMany, Unauthenticated
from chatcluster.ports import TOKENS_CHANNEL, Account, Replica
from chatcluster.subscriber import Cut
from chatcluster.web import auth
from chatcluster.web.auth import CACHE_SECONDS, LOOK_UP_WAIT_SECONDS_MAX, LOOK_UPS_MAX, Authenticator
from chatcluster.web.http import sse


class TestTokens:
    def test_a_token_is_parsed_back_to_its_id_and_digest_and_holds_256_random_bits(self) -> None:
        made = tokens.generate()
        assert tokens.parse(made.plaintext) == (made.token_id, made.digest)
        assert len(made.digest) == 32
        assert len({tokens.generate().plaintext for _ in range(50)}) == 50
        assert len(tokens.ALPHABET) ** tokens.SECRET_CHARS >= 2**256

    def test_its_text_begins_with_ccl_and_does_not_occur_in_what_is_stored(self) -> None:
        made = tokens.generate()
        prefix, token_id, secret = made.plaintext.split("_")
        assert (prefix, token_id) == ("ccl", made.token_id)
        assert secret.encode() not in made.digest

    @given(st.integers(0, 65), st.sampled_from(tokens.ALPHABET))
    def test_any_one_character_mistyped_is_told_without_asking_the_database(self, place: int, typed: str) -> None:
        text = tokens.generate().plaintext
        wrong = text[:place] + typed + text[place + 1 :]
        assert wrong == text or tokens.parse(wrong) is None

    @settings(max_examples=50)
    @given(st.text(max_size=80))
    def test_nonsense_is_no_token(self, text: str) -> None:
        assert tokens.parse(text) is None


async def test_without_a_valid_token_nothing_of_the_api_is_shown() -> None:
    world = World()
    async with serving(world):
        good = await world.token()
        unknown = tokens.generate().plaintext
        wrong: list[dict[str, str]] = [
            {},
            {"Authorization": ""},
            {"Authorization": good},
            {"Authorization": "Basic YTpi"},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer x"},
            {"Authorization": f"Bearer {good[:-1]}"},
            {"Authorization": f"Bearer {good} {good}"},
            {"Authorization": f"Bearer {unknown}"},
        ]
        async with world.client(None) as client:
            for method, url in (("GET", "/api/v1/chats"), ("POST", "/api/v1/chats"), ("GET", "/api/v1/watch")):
                for headers in wrong:
                    response = await client.request(method, url, headers=headers, json={"content": "x"})
                    assert (response.status_code, error_code(response)) == (401, "invalid_token")
                    assert response.headers["www-authenticate"] == "Bearer"
            response = await client.get("/api/v1/me", headers={"Authorization": f"bearer {good}"})
            assert response.json()["name"] == "ada"
            in_url = await client.get("/api/v1/me", params={"token": good, "access_token": good})
            assert in_url.status_code == 401
        assert not world.database.chats


async def test_administration_is_for_administrators() -> None:
    world = World()
    async with client_of(world, "ada", admin=False) as client:
        for method, url in (
            ("GET", "/api/v1/replicas"),
            ("GET", "/api/v1/tokens"),
            ("POST", "/api/v1/tokens"),
            ("DELETE", "/api/v1/tokens/x"),
        ):
            response = await client.request(method, url, json={"user": "eve", "admin": True})
            assert (response.status_code, error_code(response)) == (403, "forbidden")
        assert len(await world.accounts.tokens()) == 1


async def test_replicas_are_listed_with_what_state_they_are_in() -> None:
    world = World()
    async with client_of(world, admin=True) as client:
        for name, draining in (("one", False), ("two", True)):
            replica = Replica(uuid4(), name, f"{name}:1", "1.0", slots=8)
            await world.registry.register(replica)
            await world.registry.renew(replica.worker_id, draining=draining)
        listed = (await client.get("/api/v1/replicas")).json()["replicas"]
        assert {(item["name"], item["state"], item["slots"], item["chats"]) for item in listed} == {
            ("one", "active", 8, 0),
            ("two", "draining", 8, 0),
        }
        assert {"worker_id", "address", "version", "heartbeat_age_seconds", "started_at"} <= set(listed[0])


class TestTokenRoutes:
    async def test_a_token_is_shown_once_lets_its_user_in_and_is_revoked(self) -> None:
        world = World()
        async with client_of(world, admin=True) as admin:
            made = await admin.post("/api/v1/tokens", json={"user": "bob", "name": "laptop"})
            assert made.status_code == 201
            token, details = made.json()["token"], made.json()["details"]
            async with world.client(token) as bob:
                assert (await bob.get("/api/v1/me")).json()["name"] == "bob"
                assert (await bob.get("/api/v1/tokens")).status_code == 403
                listed = await admin.get("/api/v1/tokens")
                assert token not in listed.text
                assert details["id"] in [item["id"] for item in listed.json()["tokens"]]
                assert (await admin.delete(f"/api/v1/tokens/{details['id']}")).status_code == 204
                assert (await bob.get("/api/v1/me")).status_code == 401
            gone = await admin.delete(f"/api/v1/tokens/{details['id']}")
            assert (gone.status_code, error_code(gone)) == (404, "not_found")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"user": ""},
            {"user": 1},
            {"user": "x" * 101},
            {"user": "a\nb"},
            {"user": "x", "admin": "yes"},
            {"user": "x", "name": "\x00"},
            {"user": "x", "expires_at": "tomorrow"},
            {"user": "x", "expires_at": "2020-01-01T00:00:00Z"},
            {"user": "x", "expires_at": "2030-01-01T00:00:00"},
            {"user": "x", "expires_at": "9999-12-31T23:59:59-10:00"},
            {"user": "x", "scopes": []},
        ],
    )
    async def test_a_wrong_wish_makes_neither_token_nor_user(self, body: dict[str, Any]) -> None:
        world = World()
        async with client_of(world, admin=True) as admin:
            response = await admin.post("/api/v1/tokens", json=body)
            assert (response.status_code, error_code(response)) == (400, "invalid_request")
            assert len(await world.accounts.tokens()) == 1
            assert len(world.database.accounts) == 1


class TestMetricsRoute:
    async def test_open_on_the_replicas_own_port(self) -> None:
        world = World()
        async with serving(world), world.client(None) as client:
            await client.get("/livez")
            response = await client.get("/metrics")
            assert response.headers["content-type"].startswith("text/plain")
            assert 'chatcluster_http_requests_total{method="GET",route="/livez",status="200"} 1.0' in response.text

    async def test_for_administrators_on_the_public_port(self) -> None:
        world = World()
        async with serving(world), world.client(None, base_url=world.public_url) as client:
            assert (await client.get("/metrics")).status_code == 401
            for user, admin, status in (("bob", False, 403), ("root", True, 200)):
                headers = {"Authorization": f"Bearer {await world.token(user, admin=admin)}"}
                assert (await client.get("/metrics", headers=headers)).status_code == status


class CountingAccounts:
    """One valid token; counts how often the database is asked."""

    def __init__(self) -> None:
        self.token = tokens.generate()
        self.parsed = tokens.ParsedToken(self.token.token_id, self.token.digest)
        self.account = Account(uuid4(), "ada", admin=False)
        self.asked = 0
        self.valid = True
        self.unavailable = False
        self.silent = False
        self.answering = trio.Event()

    async def authenticate(self, token_id: str, secret_digest: bytes) -> Account | None:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.silent:
            await self.answering.wait()
        if self.unavailable:
            raise StoreUnavailable("no")
        return self.account if self.valid and (token_id, secret_digest) == self.parsed else None


class TestGuessing:
    """Well-formed tokens that are wrong cost a look-up each: an address has a rate of them."""

    async def test_over_its_rate_an_address_is_refused_without_a_look_up(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        accounts, settings = CountingAccounts(), Settings.of(auth_failures_per_second=1)
        authenticator = Authenticator(accounts, World().pubsub, settings)  # type: ignore[arg-type]

        async def guess(address: str) -> type[Exception]:
            with pytest.raises((Unauthenticated, TooMany)) as refused:
                await authenticator.authenticate(guessed(), address=address)
            return refused.type

        answers = [await guess("10.0.0.1") for _ in range(100)]
        assert answers == 10 * [Unauthenticated] + 90 * [TooMany]
        assert accounts.asked == 10
        assert await guess("10.0.0.2") is Unauthenticated
        await trio.sleep(1.0)
        assert [await guess("10.0.0.1") for _ in range(2)] == [Unauthenticated, TooMany]

    async def test_users_behind_the_same_address_go_on(self, autojump_clock: trio.testing.MockClock) -> None:
        accounts, settings = CountingAccounts(), Settings.of(auth_failures_per_second=0.1)
        pubsub = World().pubsub
        authenticator = Authenticator(accounts, pubsub, settings)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(authenticator.run)
            await trio.testing.wait_all_tasks_blocked()
            await authenticator.authenticate(accounts.parsed, address="proxy")
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(guessed(), address="proxy")
            for _ in range(3):
                pubsub.publish(TOKENS_CHANNEL, b"x")
                await trio.sleep(CACHE_SECONDS)
                assert await authenticator.authenticate(accounts.parsed, address="proxy") == accounts.account
            accounts.valid = False
            await trio.sleep(CACHE_SECONDS)
            with pytest.raises((Unauthenticated, TooMany)):
                await authenticator.authenticate(accounts.parsed, address="proxy")
            asked = accounts.asked
            with pytest.raises((Unauthenticated, TooMany)):
                await authenticator.authenticate(accounts.parsed, address="proxy")
            assert accounts.asked <= asked + 1, "a token that was revoked is as unknown as any"
            nursery.cancel_scope.cancel()


def guessed() -> tokens.ParsedToken:
    made = tokens.generate()
    return tokens.ParsedToken(made.token_id, made.digest)


class TestCache:
    """The hot path costs no transaction, and a revoked token lets nobody in."""

    async def test_a_token_is_looked_up_once_in_five_seconds(self, autojump_clock: trio.testing.MockClock) -> None:
        accounts = CountingAccounts()
        authenticator = Authenticator(accounts, World().pubsub, Settings())  # type: ignore[arg-type]
        for _ in range(100):
            assert await authenticator.authenticate(accounts.parsed) == accounts.account
        assert accounts.asked == 1
        accounts.valid = False
        await trio.sleep(CACHE_SECONDS)
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(accounts.parsed)

    async def test_a_wrong_token_is_not_remembered_and_pushes_nobody_out(self) -> None:
        accounts = CountingAccounts()
        authenticator = Authenticator(accounts, World().pubsub, Settings())  # type: ignore[arg-type]
        await authenticator.authenticate(accounts.parsed)
        for _ in range(3):
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(tokens.ParsedToken(accounts.parsed.token_id, b"wrong"))
        assert accounts.asked == 4
        await authenticator.authenticate(accounts.parsed)
        assert accounts.asked == 4

    async def test_a_revocation_anywhere_empties_it_at_once(self) -> None:
        accounts = CountingAccounts()
        pubsub = World().pubsub
        authenticator = Authenticator(accounts, pubsub, Settings())  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(authenticator.run)
            await trio.testing.wait_all_tasks_blocked()
            await authenticator.authenticate(accounts.parsed)
            accounts.valid = False
            pubsub.publish(TOKENS_CHANNEL, b"")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Unauthenticated):
                await authenticator.authenticate(accounts.parsed)
            nursery.cancel_scope.cancel()

    async def test_all_streams_of_a_token_that_ask_at_once_cost_a_few_look_ups(self) -> None:
        """After a revocation each of them asks with its next event."""
        accounts = CountingAccounts()
        authenticator = Authenticator(accounts, World().pubsub, Settings())  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(authenticator.authenticate, accounts.parsed)
        assert accounts.asked <= LOOK_UPS_MAX

    async def test_many_tokens_that_are_asked_about_at_once_leave_connections_to_others(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        """P4: the commits of chats wait for the same pool. And nobody waits for ever."""
        accounts = CountingAccounts()
        accounts.silent = True
        authenticator = Authenticator(accounts, World().pubsub, Settings())  # type: ignore[arg-type]
        refused = 0

        async def ask(number: int) -> None:
            nonlocal refused
            with pytest.raises(StoreUnavailable):
                await authenticator.authenticate(tokens.ParsedToken(f"{number}", b""))
            refused += 1

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(ask, number)
            await trio.sleep(LOOK_UP_WAIT_SECONDS_MAX + 1)
            assert accounts.asked == LOOK_UPS_MAX
            assert refused == 100 - LOOK_UPS_MAX
            accounts.unavailable = True
            accounts.answering.set()

    async def test_an_answer_from_before_a_revocation_is_not_kept(self) -> None:
        """The look-up and the announcement cross: the token is asked about again."""
        accounts = CountingAccounts()
        pubsub = World().pubsub
        authenticator = Authenticator(accounts, pubsub, Settings())  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(authenticator.run)
            await trio.testing.wait_all_tasks_blocked()
            pubsub.publish(TOKENS_CHANNEL, b"")
            await authenticator.authenticate(accounts.parsed)
            await trio.testing.wait_all_tasks_blocked()
            await authenticator.authenticate(accounts.parsed)
            assert accounts.asked == 2
            nursery.cancel_scope.cancel()


async def test_a_stream_ends_soon_after_its_token_was_revoked() -> None:
    world = World(sse_heartbeat_seconds=0.05)
    async with client_of(world) as ada, world.client(await world.token("root", admin=True)) as admin:
        token_id = next(token.id for token in await world.accounts.tokens() if token.user_name == "ada")
        async with ada.stream("GET", "/api/v1/watch") as response:
            await world.watches.next_reader()
            assert (await admin.delete(f"/api/v1/tokens/{token_id}")).status_code == 204
            await until_broken_off(response)
        assert b'stream_cuts_total{protocol="sse",reason="revoked"} 1.0' in world.metrics.render()


class TestAskingAgain:
    """P9: a stream may stay for days, and its token expire, or be revoked where nobody can announce it."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sse, "ASK_AGAIN_SECONDS", 0.05)
        monkeypatch.setattr(auth, "CACHE_SECONDS", 0.01)

    async def test_a_stream_whose_token_ended_without_a_word_ends(self) -> None:
        world = World(sse_heartbeat_seconds=0.05)
        async with client_of(world) as ada, ada.stream("GET", "/api/v1/watch") as response:
            await world.watches.next_reader()
            (token,) = await world.accounts.tokens()
            await world.accounts.revoke(token.id)
            await until_broken_off(response)
        assert b'stream_cuts_total{protocol="sse",reason="revoked"} 1.0' in world.metrics.render()

    @pytest.mark.parametrize("answer", ["an error", "none"])
    async def test_a_database_that_cannot_be_asked_ends_no_stream(
        self, answer: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """P4: who reads keeps what comes from elsewhere."""
        monkeypatch.setattr(sse, "ASK_SECONDS_MAX", 0.01)
        asked = 0
        asked_thrice = trio.Event()

        async def authenticate(*_: object) -> Account | None:
            nonlocal asked
            asked += 1
            if asked == 3:
                asked_thrice.set()
            if answer == "none":
                await trio.sleep_forever()
            raise StoreUnavailable("no")

        world = World(sse_heartbeat_seconds=0.05)
        async with client_of(world) as ada, ada.stream("GET", "/api/v1/watch") as response:
            reader = await world.watches.next_reader()
            monkeypatch.setattr(world.accounts, "authenticate", authenticate)
            with trio.fail_after(60):
                await asked_thrice.wait()
            await reader.events.send(b"event: status\ndata: {}\n\n")
            await reader.events.send(Cut("slow"))
            assert b"event: status" in await until_broken_off(response)
        assert b'stream_cuts_total{protocol="sse",reason="cut"} 1.0' in world.metrics.render()
