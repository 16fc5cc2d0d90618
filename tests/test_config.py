"""Settings: from flags and the environment, checked once, with errors that say which one and what to do."""

from __future__ import annotations

import socket
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from chatcluster.config import SETTINGS, Settings, env_name, from_environment
from chatcluster.errors import ConfigError
from chatcluster.setting_checks import flag_name


def test_the_defaults_are_valid_and_frozen() -> None:
    settings = from_environment({})
    assert settings == Settings()
    with pytest.raises(FrozenInstanceError):
        settings.replica.slots = 1  # type: ignore[misc]


def test_settings_are_made_by_the_names_of_their_flags_and_by_no_others() -> None:
    settings = Settings.of(llm_model="small", slots=3)
    assert (settings.llm.model, settings.replica.slots) == ("small", 3)
    assert settings.but(slots=4, drain_seconds=1) == Settings.of(llm_model="small", slots=4, drain_seconds=1.0)
    wrong = ({"slot": 1}, {"model": "small"}, {"replica": settings.replica}, {"slots": "3"}, {"llm_model": None})
    for values in (*wrong, {"slots": True}, {"drain_seconds": False}, {"titles": 1}, {"llm_model": True}):
        with pytest.raises(TypeError, match="setting"):
            settings.but(**values)


def test_settings_that_are_changed_together_are_judged_together() -> None:
    settings = Settings.of(lease_ttl_seconds=60.0, heartbeat_seconds=20.0)
    assert settings.but(lease_ttl_seconds=3.0, heartbeat_seconds=1.0).ownership.lease_ttl_seconds == 3.0
    with pytest.raises(ConfigError, match="3 x heartbeat-seconds"):
        settings.but(lease_ttl_seconds=3.0)


def test_every_setting_has_a_help_text_and_a_default_of_a_type_that_text_can_say() -> None:
    for name, item in SETTINGS.items():
        assert item.help, name
        assert type(item.default) in (str, int, float, bool), name


def test_a_flag_wins_over_the_environment_and_both_over_the_default() -> None:
    environment = {"CHATCLUSTER_SLOTS": "7", "CHATCLUSTER_PORT": "9000"}
    settings = from_environment(environment, slots=3, port=None)
    assert (settings.replica.slots, settings.replica.port, settings.replica.claim_batch) == (3, 9000, 10)


def test_a_flag_of_false_or_zero_is_a_value() -> None:
    settings = from_environment({"CHATCLUSTER_SLOTS": "7"}, slots=0, llm_include_usage=False)
    assert settings.replica.slots == 0
    assert settings.llm.include_usage is False


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("Yes", True), ("on", True), ("FALSE", False), ("0", False)]
)
def test_truth_has_the_usual_spellings(text: str, expected: bool) -> None:
    assert from_environment({"CHATCLUSTER_LLM_INCLUDE_USAGE": text}).llm.include_usage is expected


def test_the_models_settings_fall_back_on_the_names_that_everybody_uses() -> None:
    environment = {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "https://host/v1", "OPENAI_MODEL": "small"}
    settings = from_environment(environment)
    assert (settings.llm.api_key, settings.llm.base_url, settings.llm.model) == ("sk-1", "https://host/v1", "small")
    settings = from_environment(environment | {"CHATCLUSTER_LLM_API_KEY": "sk-2"})
    assert settings.llm.api_key == "sk-2"


def test_a_secret_can_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("sk-3\n")
    assert from_environment({"CHATCLUSTER_LLM_API_KEY_FILE": str(secret)}).llm.api_key == "sk-3"
    with pytest.raises(ConfigError, match="CHATCLUSTER_LLM_API_KEY_FILE: cannot read"):
        from_environment({"CHATCLUSTER_LLM_API_KEY_FILE": str(tmp_path / "none")})


def test_a_secret_in_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        from_environment({"CHATCLUSTER_LLM_API_KEY_FILE": str(secret)})


def test_a_setting_that_is_no_secret_is_not_read_from_a_file(tmp_path: Path) -> None:
    name = tmp_path / "name"
    name.write_text("from a file")
    assert from_environment({"CHATCLUSTER_NAME_FILE": str(name)}).replica.name == ""


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("CHATCLUSTER_SLOTS", "many", "CHATCLUSTER_SLOTS must be a whole number, not 'many'"),
        ("CHATCLUSTER_SLOTS", "1.5", "CHATCLUSTER_SLOTS must be a whole number"),
        ("CHATCLUSTER_DRAIN_SECONDS", "soon", "CHATCLUSTER_DRAIN_SECONDS must be a number"),
        ("CHATCLUSTER_LLM_INCLUDE_USAGE", "perhaps", "must be true or false"),
        ("CHATCLUSTER_SLOTS", "-1", "slots must be at least 0, not -1"),
        ("CHATCLUSTER_PORT", "65536", "port must be at most 65535"),
        ("CHATCLUSTER_DRAIN_SECONDS", "nan", "drain-seconds must be finite"),
        ("CHATCLUSTER_DRAIN_SECONDS", "inf", "drain-seconds must be finite"),
        ("CHATCLUSTER_LLM_BASE_URL", "host/v1", "llm-base-url must be a URL that begins with http"),
        ("CHATCLUSTER_LLM_BASE_URL", "https://", "llm-base-url must be a URL"),
        ("CHATCLUSTER_LLM_BASE_URL", "http://host:port/v1", "llm-base-url must be a URL"),
        ("CHATCLUSTER_LLM_BASE_URL", "localhost:11434/v1", "llm-base-url must be a URL"),
        ("CHATCLUSTER_LLM_API_KEY", "two\r\nlines", "llm-api-key must be printable ASCII"),
        ("CHATCLUSTER_LLM_API_KEY", "k\u00e9y", "llm-api-key must be printable ASCII"),
        ("CHATCLUSTER_NAME", "replica\u200b1", "name must not contain characters that are invisible"),
        ("CHATCLUSTER_LLM_MODEL", "model\u202e", "llm-model must not contain characters that are invisible"),
        ("CHATCLUSTER_REPLACES", "replica-1", "replaces must be a worker ID"),
        ("CHATCLUSTER_LOG_LEVEL", "loud", "log-level must be debug, info, warning or error"),
        ("CHATCLUSTER_LOG_FORMAT", "xml", "log-format must be json or text"),
    ],
)
def test_a_bad_setting_is_an_error_of_one_line_that_names_it(variable: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        from_environment({variable: text})
    assert "\n" not in str(refused.value)


def test_one_late_heartbeat_is_no_death() -> None:
    """P4"""
    Settings.of(heartbeat_seconds=1.0, lease_ttl_seconds=3.0, lease_margin_seconds=1.0)
    with pytest.raises(ConfigError, match="3 x heartbeat-seconds"):
        Settings.of(heartbeat_seconds=1.0, lease_ttl_seconds=2.9)


def test_a_replica_stops_itself_before_anyone_may_take_over_and_after_a_heartbeat_could_come() -> None:
    """P2"""
    settings = Settings()
    assert (
        settings.ownership.heartbeat_seconds
        < settings.ownership.self_fence_seconds
        < settings.ownership.lease_ttl_seconds
    )
    with pytest.raises(ConfigError, match="lease-margin-seconds"):
        Settings.of(lease_margin_seconds=4.0)


def test_the_first_wait_is_not_above_the_longest() -> None:
    with pytest.raises(ConfigError, match="retry-base-seconds"):
        Settings.of(retry_base_seconds=61.0)


def test_session_locks_use_the_direct_url_the_same_url_or_none() -> None:
    assert Settings.of(database_url="a").servers.direct_url == "a"
    assert Settings.of(database_url="a", database_direct_url="b").servers.direct_url == "b"
    assert Settings.of(database_url="a", database_direct_url="off").servers.direct_url is None


def test_a_replica_is_listed_with_an_address_that_others_can_reach() -> None:
    """All addresses of a machine are an address to listen on, and none to go to."""
    assert Settings().replica.advertised_address(8100) == "127.0.0.1:8100"
    assert Settings.of(host="0.0.0.0").replica.advertised_address(8100) == f"{socket.gethostname()}:8100"
    assert Settings.of(host="::1").replica.advertised_address(8100) == "[::1]:8100"
    assert Settings.of(host="0.0.0.0", advertise="chat-1:80").replica.advertised_address(8100) == "chat-1:80"


def test_a_setting_has_one_name_in_each_place() -> None:
    assert flag_name("lease_ttl_seconds") == "lease-ttl-seconds"
    assert env_name("lease_ttl_seconds") == "CHATCLUSTER_LEASE_TTL_SECONDS"
