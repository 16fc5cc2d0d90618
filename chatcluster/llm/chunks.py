"""One chunk of a Chat Completions stream, from JSON as servers really send it. Pure.

``read_chunk`` takes the quick way, typed decoding that skips unknown fields, and where that fails the long
one: NaN, raw control characters, broken UTF-8 and lone surrogates are read, and fields of the wrong type
count as absent. Fields that differ in type between servers stay ``Any``; the functions here read them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from chatcluster.parts import Part, ReasoningPart, TextPart, Usage


class Message(msgspec.Struct):
    """A delta, or the message itself where the server did not stream."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None


class Choice(msgspec.Struct):
    delta: Message | None = None
    message: Message | None = None
    finish_reason: Any = None
    usage: Any = None


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: Any = None
    model: Any = None
    error: Any = None
    object: Any = None
    message: Any = None
    code: Any = None
    type: Any = None


LARGE_BYTES = 256 << 10
VALUES_MAX = 100_000
"""In a large chunk: all else waits while they are read. A long text has commas, but not as many in one chunk."""
EFFORT_BYTES_MAX = 1 << 20
"""The long way goes through a chunk three times."""
_STRUCTURE = (b",", b"[", b"{")


class _Object(msgspec.Struct):
    """Any JSON object: unknown fields are skipped."""


_object_decoder = msgspec.json.Decoder(_Object)
_chunk_decoder = msgspec.json.Decoder(Chunk)


def read_chunk(payload: bytes) -> Chunk:
    """The chunk; raises ``ValueError`` for what is no JSON even with goodwill, and what would take too long to read."""
    if len(payload) > LARGE_BYTES and sum(map(payload.count, _STRUCTURE)) > VALUES_MAX:
        raise ValueError("it has more values than an answer needs")
    try:
        return _chunk_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if len(payload) > EFFORT_BYTES_MAX:
            raise ValueError(str(error)) from None
        return _as_chunk(_parse_with_effort(payload))


def append_text(value: Any, parts: list[Part], kind: type[TextPart] | type[ReasoningPart]) -> None:
    """Append the text in ``value``: a string, or a list of typed blocks, where thinking is a block as well."""
    if isinstance(value, str):
        if value:
            parts.append(kind(value))
    elif isinstance(value, list):
        for block in value:
            if isinstance(block, dict):
                append_text(block.get("thinking"), parts, ReasoningPart)
                append_text(block.get("text"), parts, kind)


def read_usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    usage = Usage(
        input_tokens=_count(value, "prompt_tokens"),
        output_tokens=_count(value, "completion_tokens"),
        reasoning_tokens=_count(value.get("completion_tokens_details"), "reasoning_tokens"),
        cached_input_tokens=_count(value.get("prompt_tokens_details"), "cached_tokens"),
    )
    return None if usage == Usage() else usage


def _count(value: Any, key: str) -> int | None:
    count = value.get(key) if isinstance(value, dict) else None
    return count if type(count) is int and count >= 0 else None


def parse_json(text: str) -> Any:
    """The JSON value of ``text``; None also if it has none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_json_object(text: str) -> bool:
    """Whether ``text`` is a JSON object. Nothing of it is kept, however large it is."""
    try:
        _object_decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _parse_with_effort(payload: bytes) -> Any:
    """The JSON value of ``payload`` with NaN, raw control characters, broken UTF-8 and lone surrogates allowed.

    What is no character becomes U+FFFD. Raises ``ValueError``.
    """
    try:
        value = json.loads(payload.decode("utf-8", "replace"), strict=False)
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _as_chunk(value: Any) -> Chunk:
    """The chunk in a JSON value of any shape; what has the wrong type counts as absent."""
    if not isinstance(value, dict):
        return Chunk()
    choices = value.get("choices")
    sound = (
        [_sound_choice(choice) for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    )
    return msgspec.convert({**value, "choices": sound}, Chunk)


def _sound_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in choice.items() if key not in ("delta", "message") or isinstance(value, dict)}
