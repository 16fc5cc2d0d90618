"""The URLs of databases as people and managed services write them: understood, passed over, or refused in one line."""

from __future__ import annotations

import pytest

from chatcluster.errors import ConfigError
from chatcluster.postgres.url import CONNECT_SECONDS, parse

HOST = "postgresql://user:secret@host:5432/name"


@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=prefer",
        "gssencmode=disable",
        "keepalives=1",
        "keepalives_idle=30",
        "tcp_user_timeout=1000",
        "client_encoding=utf8",
        "load_balance_hosts=random",
        "sslnegotiation=postgres",
        "sslcompression=0",
        "sslsni=1",
        "fallback_application_name=cli",
        "application_name=mine",
        "replication=false",
    ],
)
def test_what_asks_for_no_more_than_is_done_is_passed_over(parameter: str) -> None:
    assert parse(f"{HOST}?sslmode=require&{parameter}").dsn == f"{HOST}?sslmode=require"


@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=require",
        "gssencmode=require",
        "requirepeer=postgres",
        "replication=database",
        "sslcertmode=require",
        "require_auth=scram-sha-256",
        "hostaddr=10.0.0.1",
        "sslcrldir=/crl",
        "schema=public",
        "pgbouncer=true",
        "statement_timeout=5",
        "conect_timeout=5",
        "sslmode=require&channel_binding=require",
    ],
)
def test_what_cannot_be_done_is_refused_by_name(parameter: str) -> None:
    """A demand on security is not passed over in silence, and a misspelt parameter might be one."""
    name = parameter.rpartition("&")[2].partition("=")[0]
    with pytest.raises(ConfigError, match=rf"\b{name}\b") as refused:
        parse(f"{HOST}?{parameter}")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "seconds"),
    [
        (HOST, CONNECT_SECONDS),
        (f"{HOST}?connect_timeout=0", CONNECT_SECONDS),
        (f"{HOST}?connect_timeout=", CONNECT_SECONDS),
        (f"{HOST}?connect_timeout=10", 10),
        (f"{HOST}?connect_timeout=9999999", 60),
    ],
)
def test_the_time_to_connect_is_taken_from_the_url_and_has_a_bound(url: str, seconds: float) -> None:
    assert parse(url).connect_seconds == seconds


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "²"])
def test_a_time_to_connect_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="connect_timeout"):
        parse(f"{HOST}?connect_timeout={value}")


def test_settings_of_the_server_go_into_options() -> None:
    parsed = parse(f"{HOST}?options=-c%20work_mem%3D8MB&search_path=mine")
    assert parsed.server_settings == {"options": "-c work_mem=8MB", "search_path": "mine"}
    assert parsed.dsn == HOST


def test_tls_as_newer_libpq_writes_it_is_understood() -> None:
    parsed = parse(f"{HOST}?sslmode=verify-full&sslrootcert=system&sslnegotiation=direct")
    assert set(parsed.tls) == {"ssl", "direct_tls"}
    assert parsed.dsn == f"{HOST}?sslmode=verify-full"


@pytest.mark.parametrize("name", ["sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"names as {name} cannot be read: /absent"):
        parse(f"{HOST}?{name}=/absent")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://user:p%40ss%2Fword@host/name",
        "postgresql://user@[::1]:5432/name",
        "postgresql://one:5432,two:5433/name?target_session_attrs=read-write",
        "postgresql:///name?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/name",
        "postgresql://host",
        "postgresql://host/name?user=me%40server&password=a%26b",
    ],
)
def test_what_the_driver_understands_reaches_it_as_it_was(url: str) -> None:
    assert parse(url).dsn == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hush#more@host/name",
        "postgresql://user:hush?more=1@host/name",
        "postgresql://user:hush?more@host/name",
        "postgresql://user:hush[more@host/name",
        "postgresql://user:hush@more@host/name",
        "redis://user:hush@host/more",
        "",
    ],
)
def test_what_is_no_url_of_a_database_is_refused_without_a_word_of_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="the Postgres URL cannot be used") as refused:
        parse(url)
    assert "hush" not in str(refused.value)
    assert "more" not in str(refused.value)
