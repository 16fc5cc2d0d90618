"""Secrets at rest: sealed under a key and bound to their place, and rotated without losing one."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio
from conftest import execute_sql

from chatcluster.config import Settings
from chatcluster.errors import ConfigError, NoEncryptionKeys, SecretUnreadable
from chatcluster.ports import Grant, McpServer, McpSettings
from chatcluster.postgres import open_database
from chatcluster.postgres.mcp_servers import PostgresMcpServers
from chatcluster.postgres.sealed import Rotated, rotate
from chatcluster.secrets import Keyring, last_four, new_key, place_of

PLACE = place_of("mcp_servers", "sealed", 7)
SECRET = b"a secret of somebody"
OLD, NEW = new_key(), new_key()


def test_what_was_sealed_for_a_place_opens_there() -> None:
    keyring = Keyring.parse(OLD)
    sealed = keyring.seal(SECRET, PLACE)
    assert SECRET not in sealed
    assert keyring.open(sealed, PLACE) == SECRET


def test_the_same_secret_is_never_sealed_alike() -> None:
    keyring = Keyring.parse(OLD)
    assert keyring.seal(SECRET, PLACE) != keyring.seal(SECRET, PLACE)


@pytest.mark.parametrize("place", [place_of("mcp_servers", "sealed", 8), place_of("other", "sealed", 7)])
def test_a_value_that_is_copied_to_another_place_does_not_open(place: str) -> None:
    keyring = Keyring.parse(OLD)
    with pytest.raises(SecretUnreadable):
        keyring.open(keyring.seal(SECRET, PLACE), place)


def test_no_bit_of_a_sealed_value_can_be_changed() -> None:
    keyring = Keyring.parse(OLD)
    sealed = keyring.seal(SECRET, PLACE)
    for index in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[index] ^= 1
        with pytest.raises(SecretUnreadable):
            keyring.open(bytes(damaged), PLACE)


@pytest.mark.parametrize("length", range(34))
def test_a_value_that_was_cut_does_not_open(length: int) -> None:
    keyring = Keyring.parse(OLD)
    with pytest.raises(SecretUnreadable):
        keyring.open(keyring.seal(SECRET, PLACE)[:length], PLACE)


def test_the_first_key_seals_and_all_of_them_open() -> None:
    sealed = Keyring.parse(OLD).seal(SECRET, PLACE)
    both = Keyring.parse(f"{NEW}, {OLD}")
    assert both.open(sealed, PLACE) == SECRET
    assert Keyring.parse(NEW).open(both.resealed(sealed, PLACE), PLACE) == SECRET
    with pytest.raises(SecretUnreadable):
        Keyring.parse(NEW).open(sealed, PLACE)


def test_without_keys_a_secret_is_not_stored_and_the_error_says_what_to_do() -> None:
    with pytest.raises(NoEncryptionKeys, match="CHATCLUSTER_ENCRYPTION_KEYS"):
        Keyring.parse("").seal(SECRET, PLACE)


@pytest.mark.parametrize(
    "text",
    ["short", "c2hvcnQ=", f"{OLD}, {NEW[:-4]}", "é", f"{OLD}\0"],
    ids=["short", "short base64", "the second is cut", "no ASCII", "NUL"],
)
def test_a_key_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Keyring.parse(text)
    assert text not in str(caught.value)


def test_of_a_secret_the_last_four_characters_are_shown_unless_that_is_much_of_it() -> None:
    assert last_four("sk-0123456789abcd") == "abcd"
    assert last_four("hunter2") == ""


@pytest.mark.postgres
async def test_a_rotation_seals_everything_anew_also_what_is_written_meanwhile(database_url: str) -> None:
    old, both, new = Keyring.parse(OLD), Keyring.parse(f"{NEW},{OLD}"), Keyring.parse(NEW)
    async with open_database(Settings.of(database_url=database_url)) as database:
        servers = PostgresMcpServers(database)
        server_id = uuid4()
        place = place_of("mcp_servers", "sealed", server_id)
        settings = McpSettings(url="http://127.0.0.1/")
        await servers.add(McpServer(id=server_id, slug="a", settings=settings, sealed=old.seal(b"key", place)))
        users = [uuid4() for _ in range(250)]

        async def keep(keyring: Keyring, token: bytes) -> None:
            for user_id in users:
                at = place_of("mcp_grants", "sealed", server_id, user_id)
                await servers.keep_grant(Grant(server_id=server_id, user_id=user_id, sealed=keyring.seal(token, at)))

        await keep(old, b"first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, both, b"second")
            await rotate(database, both)
        assert (await rotate(database, both)).left == 0

        for user_id in users:
            grant = await servers.grant(server_id, user_id)
            assert grant is not None
            assert new.open(grant.sealed, place_of("mcp_grants", "sealed", server_id, user_id)) == b"second"
        (server,) = await servers.servers()
        assert server.sealed is not None
        assert new.open(server.sealed, place) == b"key"


@pytest.mark.postgres
async def test_values_that_no_key_opens_are_left_and_counted_and_hide_no_other(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatcluster.postgres.sealed.BATCH_ROWS", 2)
    monkeypatch.setattr("chatcluster.postgres.sealed.PAUSE_SECONDS", 0.0)
    async with open_database(Settings.of(database_url=database_url)) as database:
        lost, last = Keyring.parse(new_key()).seal(b"key", PLACE), UUID(int=2**128 - 1)
        await trio.to_thread.run_sync(
            execute_sql,
            database_url,
            "insert into mcp_servers (id, slug, settings, sealed, secrets_at) "
            f"select gen_random_uuid(), n::text, '{{}}', '\\x{lost.hex()}', now() from generate_series(1, 5) as n",
        )
        sealed = Keyring.parse(OLD).seal(b"key", place_of("mcp_servers", "sealed", last))
        settings = McpSettings(url="http://127.0.0.1/")
        await PostgresMcpServers(database).add(McpServer(id=last, slug="z", settings=settings, sealed=sealed))
        assert await rotate(database, Keyring.parse(f"{NEW},{OLD}")) == Rotated(resealed=1, left=5)
