"""Base URLs as people set them: the right request each time, or one line that says what is wrong."""

from __future__ import annotations

import pytest

from chatcluster.config import Settings
from chatcluster.errors import ConfigError
from chatcluster.llm.addresses import end_point_url, key_headers, secrets_in


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("https://host/v1", "https://host/v1/chat/completions"),
        ("https://host/v1/", "https://host/v1/chat/completions"),
        ("https://host/v1///", "https://host/v1/chat/completions"),
        (" https://host/v1 ", "https://host/v1/chat/completions"),
        ("https://host", "https://host/chat/completions"),
        ("https://host/", "https://host/chat/completions"),
        ("https://host/a/b/openai/v2", "https://host/a/b/openai/v2/chat/completions"),
        ("https://host/v1/chat/completions", "https://host/v1/chat/completions"),
        ("https://host/v1/chat/completions/", "https://host/v1/chat/completions"),
        (
            "https://x.example/openai/deployments/d?api-version=2026-01-01",
            "https://x.example/openai/deployments/d/chat/completions?api-version=2026-01-01",
        ),
        ("https://host/v1/?a=1&b=x%20y", "https://host/v1/chat/completions?a=1&b=x%20y"),
        ("https://host?a=1", "https://host/chat/completions?a=1"),
        ("https://host/v1#part", "https://host/v1/chat/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
        ("http://user:p%40ss@host/v1", "http://user:p%40ss@host/v1/chat/completions"),
        ("http://host/my%20models/v1", "http://host/my%20models/v1/chat/completions"),
    ],
)
def test_requests_go_below_the_base_url(base_url: str, url: str) -> None:
    assert Settings.of(llm_base_url=base_url)
    assert end_point_url(base_url, "/chat/completions") == url


def test_any_end_point_pasted_is_understood() -> None:
    for pasted in ("/chat/completions", "/messages", "/responses", ""):
        assert end_point_url(f"https://host/v1{pasted}", "/responses") == "https://host/v1/responses"
    assert end_point_url("https://host?a=1", "/responses/x", query="b=2") == "https://host/responses/x?a=1&b=2"


@pytest.mark.parametrize(
    "url",
    [
        "host/v1",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://host:0/v1",
        "http://host:99999/v1",
        "http://host:port/v1",
        "http://ho st/v1",
        "http://[::1/v1",
        "http://host\\v1",
        "http://host/\x01v1",
        "http://host/v1\nx",
        "http://{host}/v1",
    ],
)
def test_what_is_no_url_is_refused_in_one_line_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="llm-base-url must be a URL") as caught:
        Settings.of(llm_base_url=url)
    assert "\n" not in caught.value.message


def test_the_key_travels_where_the_server_looks_for_it() -> None:
    assert key_headers("https://host/v1", "k") == {"authorization": "Bearer k"}
    assert key_headers("https://host/d?api-version=1", "k")["api-key"] == "k"


def test_the_secrets_in_a_url_are_known() -> None:
    found = secrets_in("http://user:p%40ss@host/v1?key=k-123&api-version=2026")
    assert set(found) == {"p%40ss", "p@ss", "k-123", "dXNlcjpwQHNz"}
    assert secrets_in("http://host/v1") == ()
