"""What an answer took is read from the usage of any server; searches of the web are counted as the provider does."""

from __future__ import annotations

from typing import Any

import pytest

from chatcluster.llm.counts import read_response_usage, read_usage
from chatcluster.parts import Usage


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"server_tool_use": {"web_search_requests": 2}}, id="OpenRouter"),
        pytest.param({"num_search_queries": 2}, id="Perplexity"),
        pytest.param({"server_side_tool_usage_details": {"web_search_calls": 2}}, id="xAI"),
    ],
)
def test_searches_are_read_in_the_words_of_many_servers(said: dict[str, Any]) -> None:
    assert read_usage({"prompt_tokens": 5, "completion_tokens": 1, **said}) == Usage(5, 1, searches=2)
    assert read_response_usage({"input_tokens": 5, "output_tokens": 1, **said}, None) == Usage(5, 1, searches=2)


@pytest.mark.parametrize(
    "said",
    [
        {"server_tool_use": None},
        {"server_tool_use": {"web_search_requests": 0}},
        {"server_tool_use": {"web_search_requests": "2"}},
        {"num_search_queries": -1},
        {"num_search_queries": True},
        {"server_side_tool_usage_details": [1]},
    ],
)
def test_what_is_no_count_of_searches_is_none(said: dict[str, Any]) -> None:
    assert read_usage({"prompt_tokens": 5, "completion_tokens": 1, **said}) == Usage(5, 1)


@pytest.mark.parametrize(
    ("tool_usage", "searches"),
    [
        ({"web_search": {"num_requests": 2}, "image_gen": {"input_tokens": 0}}, 2),
        ({"web_search": {"num_requests": 0}}, None),
        ({"web_search": 2}, None),
        (7, None),
        (None, None),
    ],
)
def test_openai_counts_the_searches_of_a_response_apart_from_its_tokens(tool_usage: Any, searches: int | None) -> None:
    assert read_response_usage({"input_tokens": 5}, tool_usage) == Usage(5, searches=searches)
    assert read_response_usage(None, tool_usage) == (Usage(searches=searches) if searches else None)
