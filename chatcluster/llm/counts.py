"""What an answer took, as servers of all wires count it: tokens of each kind, and searches of the web. Pure.

Each count may be missing, of another type, or under another name; what is no count is passed over, and no odd usage
ever fails an answer.
"""

from __future__ import annotations

from typing import Any

from chatcluster.parts import Usage

COUNT_MAX = 2**53 - 1
"""What every reader of JSON takes for a whole number."""
_CACHED = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
"""Names for cached tokens of the input: of DeepSeek, of Moonshot, and of gateways before Anthropic."""
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens")


def read_usage(value: Any) -> Usage | None:
    """The counts of Chat Completions in ``value``; None if there is none.

    Some servers (xAI, Gemini) leave what was reasoned out of the output, and have it in the total alone; gateways do so
    with what was cached of the input.
    """
    if not isinstance(value, dict):
        return None
    read = value.get("prompt_tokens_details")
    asked = read_count(value, "prompt_tokens", "input_tokens")
    answered = read_count(value, "completion_tokens", "output_tokens")
    reasoned = read_count(value.get("completion_tokens_details"), "reasoning_tokens")
    cached = _first_count(read_count(read, "cached_tokens"), read_count(value, *_CACHED))
    written = _first_count(read_count(read, *_WRITTEN), read_count(value, "cache_creation_input_tokens"))
    kept = (cached or 0) + (written or 0)
    hidden = (read_count(value, "total_tokens") or 0) - (asked or 0) - (answered or 0)
    if asked is not None and (kept > asked or hidden == kept != reasoned):
        asked += kept
    elif asked is not None and answered is not None and 0 < hidden == (reasoned or hidden):
        answered, reasoned = answered + hidden, hidden
    usage = Usage(asked, answered, reasoned, cached, written, read_searches(value))
    return None if usage == Usage() else usage


def read_response_usage(value: Any, tool_usage: Any) -> Usage | None:
    """The counts of Responses, where those of the server's own tools stand apart; None if there is none."""
    value = value if isinstance(value, dict) else {}
    read, wrote = value.get("input_tokens_details"), value.get("output_tokens_details")
    searches = tool_usage.get("web_search") if isinstance(tool_usage, dict) else None
    usage = Usage(
        input_tokens=read_count(value, "input_tokens"),
        output_tokens=read_count(value, "output_tokens"),
        reasoning_tokens=read_count(wrote, "reasoning_tokens"),
        cached_input_tokens=read_count(read, "cached_tokens"),
        cache_write_tokens=read_count(read, "cache_write_tokens"),
        searches=read_count(searches, "num_requests") or read_searches(value),
    )
    return None if usage == Usage() else usage


def read_searches(usage: dict[str, Any]) -> int | None:
    """How often the web was searched, as Anthropic and OpenRouter, xAI, and Perplexity say it; None: not at all."""
    return (
        read_count(usage.get("server_tool_use"), "web_search_requests")
        or read_count(usage.get("server_side_tool_usage_details"), "web_search_calls")
        or read_count(usage, "num_search_queries")
        or None
    )


def read_count(value: Any, *keys: str) -> int | None:
    """The first of ``keys`` that holds a count."""
    for key in keys:
        count = value.get(key) if isinstance(value, dict) else None
        if isinstance(count, float) and count.is_integer():
            count = int(count)
        if type(count) is int and 0 <= count <= COUNT_MAX:
            return count
    return None


def _first_count(count: int | None, other: int | None) -> int | None:
    return other if count is None else count
