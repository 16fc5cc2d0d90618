"""One chunk of a Chat Completions stream, from JSON as servers really send it. Pure.

``read_chunk`` takes the quick way, typed decoding that skips unknown fields, and where that fails the long
one: NaN, numbers of any length, raw control characters, broken UTF-8 and lone surrogates are read, and fields of the
wrong type count as absent. Fields that differ in type between servers stay ``Any``; the functions here read them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from chatcluster.json_bounds import bounded
from chatcluster.llm.counts import read_usage
from chatcluster.parts import Part, ReasoningPart, TextPart, Usage

BLOCKS_MAX = 1000
"""Blocks of one piece of content that are read."""
DIGITS_MAX = 300
EFFORT_BYTES_MAX = 256 << 10
"""The largest chunk that is read the long way: meanwhile nothing else runs."""
_NOTHING: tuple[Any, ...] = (None, "", 0, {}, [])  # 0 stands for False as well


class Said(msgspec.Struct):
    """A delta, or the message itself where the server did not stream."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_text: Any = None
    thinking: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    annotations: Any = None
    reasoning_details: Any = None
    extra_content: Any = None


class Choice(msgspec.Struct):
    delta: Said | None = None
    message: Said | None = None
    finish_reason: Any = None
    usage: Any = None
    error: Any = None

    @property
    def counts(self) -> Usage | None:
        return read_usage(self.usage)


class Chunk(msgspec.Struct):
    choices: list[Choice] | None = None
    usage: Any = None
    model: Any = None
    object: Any = None
    type: Any = None
    code: Any = None
    error: Any = None
    errors: Any = None
    message: Any = None
    msg: Any = None
    detail: Any = None
    base_resp: Any = None
    search_results: Any = None
    citations: Any = None

    @property
    def counts(self) -> Usage | None:
        return read_usage(self.usage)

    @property
    def is_error(self) -> bool:
        """Whether it tells of a failure, in any of the shapes that servers have for that."""
        if self.error not in _NOTHING or self.errors not in _NOTHING or "error" in (self.object, self.type):
            return True
        if isinstance(self.base_resp, dict) and self.base_resp.get("status_code") not in _NOTHING:
            return True
        has_words = any(words not in _NOTHING for words in (self.message, self.msg, self.detail))
        return self.choices is None and (has_words or self.error in ({}, []))


LARGE_BYTES = 256 << 10
VALUES_MAX = 100_000
"""In a large chunk: all else waits while they are read. A long text has commas, but not as many in one chunk."""
_STRUCTURE = (b",", b"[", b"{")


class _Object(msgspec.Struct):
    """Any JSON object: unknown fields are skipped."""


_object_decoder = msgspec.json.Decoder(_Object)
_value_decoder = msgspec.json.Decoder(msgspec.Raw)
_chunk_decoder = msgspec.json.Decoder(Chunk)


def read_chunk(payload: bytes) -> Chunk:
    """The chunk; raises ``ValueError`` for what is no JSON even with goodwill, and what would take too long to read."""
    if len(payload) > LARGE_BYTES and sum(map(payload.count, _STRUCTURE)) > VALUES_MAX:
        raise ValueError("it has more values than an answer needs")
    try:
        return _chunk_decoder.decode(bounded(payload, values_max=VALUES_MAX))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _as_chunk(parse_with_effort(payload))


def append_text(value: Any, parts: list[Part], kind: type[TextPart] | type[ReasoningPart]) -> None:
    """Append the text in ``value``: a string, a typed block, or a list of both. Thinking is a block as well, and
    some servers have text in ``value`` below ``text``.
    """
    if isinstance(value, str):
        if value:
            parts.append(kind(value))
    elif isinstance(value, list):
        for block in value[:BLOCKS_MAX]:
            if isinstance(block, dict | str):
                append_text(block, parts, kind)
    elif isinstance(value, dict):
        _append_block(value, parts, kind)


def _append_block(block: dict[str, Any], parts: list[Part], kind: type[TextPart] | type[ReasoningPart]) -> None:
    """Blocks of thinking and text hold a string or a list of blocks; what lies deeper is read over."""
    for key, inner_kind in (("thinking", ReasoningPart), ("text", kind), ("refusal", kind)):
        inner = block.get(key)
        pieces = inner[:BLOCKS_MAX] if isinstance(inner, list) else [inner]
        texts = (piece.get("text", piece.get("value")) if isinstance(piece, dict) else piece for piece in pieces)
        if text := "".join(text for text in texts if isinstance(text, str)):
            parts.append(inner_kind(text))


def is_json_value(text: str) -> bool:
    """Whether ``text`` is a JSON value that says something. Nothing of it is kept, however large it is."""
    return _can_be_decoded(text, _value_decoder) and text.strip() != "null"


def is_json_object(text: str) -> bool:
    """Whether ``text`` is a JSON object. Nothing of it is kept, however large it is."""
    return _can_be_decoded(text, _object_decoder)


def _can_be_decoded(text: str, decoder: msgspec.json.Decoder[Any]) -> bool:
    try:
        decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def parse_with_effort(payload: bytes) -> Any:
    """The JSON value of ``payload`` with NaN, numbers of any length, raw control characters, broken UTF-8 and lone
    surrogates allowed.

    What is no character becomes U+FFFD. Raises ``ValueError``, also for more than ``EFFORT_BYTES_MAX``.
    """
    if len(payload) > EFFORT_BYTES_MAX:
        raise ValueError(f"not JSON, and longer than {EFFORT_BYTES_MAX} bytes")
    try:
        value = json.loads(payload.decode("utf-8", "replace"), strict=False, parse_int=_whole_number)
        text = json.dumps(value, ensure_ascii=False)
        return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS_MAX else float(digits)


def _as_chunk(value: Any) -> Chunk:
    """The chunk in a JSON value of any shape; what has the wrong type counts as absent. A list that is not empty, or
    mere text, is no chunk of an answer: that is how some servers tell of a failure.
    """
    if not isinstance(value, dict):
        return Chunk(error=value if value and isinstance(value, list | str) else None)
    choices = value.get("choices")
    if isinstance(choices, list):
        choices = [_sound_choice(choice) for choice in choices if isinstance(choice, dict)]
    return msgspec.convert({**value, "choices": choices if isinstance(choices, list) else None}, Chunk)


def _sound_choice(choice: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in choice.items() if key not in ("delta", "message") or isinstance(value, dict)}
