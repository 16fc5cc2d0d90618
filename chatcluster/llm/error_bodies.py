"""What a provider said about its failure: JSON of many shapes, HTML, or plain text, as one ``ErrorObject``. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from chatcluster.llm.chunks import parse_with_effort
from chatcluster.llm.retry_after import read_duration

ERROR_DEPTH_MAX = 8
WORD_CHARACTERS_MAX = 80

_TITLE = re.compile(r"<(title|h1)[^>]{0,200}>(.{0,200}?)</\1>", re.IGNORECASE | re.DOTALL)
_HTML_CHARACTERS_MAX = 16 << 10
_INNER = ("error", "errors", "fault", "base_resp")
_MESSAGES = (
    "message",
    "Message",
    "detail",
    "msg",
    "error_msg",
    "status_msg",
    "faultstring",
    "html-message",
    "title",
    "reason",
)
_CODES = ("code", "error_code", "status_code", "errorcode", "Code")
_TYPES = ("type", "__type", "error_type", "status", "errorType")
_WAITS = ("retry_after", "retry_after_seconds", "retryAfter")


class ErrorObject(NamedTuple):
    """A provider's error, whatever its shape was."""

    message: str = ""
    code: str = ""
    type: str = ""
    retry_after_seconds: float | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status that the code stands for, if it is one."""
        return int(self.code) if re.fullmatch(r"[45][0-9]{2}", self.code) else None


def read_error_body(body: bytes) -> ErrorObject:
    """The error in a failing response's body."""
    try:
        value = parse_with_effort(body)
    except ValueError:
        return ErrorObject(message=_plain_text(body.decode("utf-8", "replace")))
    return read_error_object(value)


def read_error_object(value: object, depth_max: int = ERROR_DEPTH_MAX) -> ErrorObject:
    """``{"error": {...}}``, ``{"error": "text"}``, ``[{...}]``, ``{"detail": ...}``, the inner object, or text.

    What the inner object leaves out may stand beside it.
    """
    if depth_max == 0:
        return ErrorObject()
    if isinstance(value, list) and value:
        return read_error_object(value[0], depth_max - 1)
    if not isinstance(value, dict):
        return ErrorObject(message=_plain_text(value) if isinstance(value, str) else "")
    outer = _read_flat(value)
    inner = next((value[key] for key in _INNER if isinstance(value.get(key), dict | list) and value[key]), None)
    if inner is None:
        return outer
    found = read_error_object(inner, depth_max - 1)
    return ErrorObject(
        found.message or outer.message,
        found.code or outer.code,
        found.type or outer.type,
        found.retry_after_seconds or outer.retry_after_seconds,
    )


def _read_flat(value: dict[str, Any]) -> ErrorObject:
    details = value.get("details")
    wait = _detail(details, "retryDelay") or _first(value, _WAITS)
    return ErrorObject(
        message=_message(value),
        code=_as_word(_daily_quota(details) or _detail(details, "error_code") or _first(value, _CODES)),
        type=_as_word(_first(value, _TYPES)).rpartition("#")[2],
        retry_after_seconds=read_duration(_as_word(wait)),
    )


def _message(value: dict[str, Any]) -> str:
    """The message, and behind it what a router says about the server behind it."""
    plain = value.get("error") if isinstance(value.get("error"), str) else None
    message = _first(value, _MESSAGES) or plain or value.get("error_description")
    text = message if isinstance(message, str) else _as_json(message)
    metadata = value.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{text}: {raw if isinstance(raw, str) else _as_json(raw)}" if raw else text


def _detail(details: Any, key: str) -> object:
    """``details`` is an object with some providers and a list of objects with others."""
    candidates = details if isinstance(details, list) else [details]
    return next((item[key] for item in candidates if isinstance(item, dict) and item.get(key) is not None), None)


def _daily_quota(details: Any) -> str:
    """Google says in the same words that a minute's share is spent, and a day's, for which one does not wait."""
    violations = _detail(details, "violations")
    for violation in violations if isinstance(violations, list) else ():
        if isinstance(violation, dict) and "PerDay" in str(violation.get("quotaId")):
            return "quota_exceeded"
    return ""


def _first(value: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((value[key] for key in keys if value.get(key) not in (None, "", [], {})), None)


def _as_word(value: object) -> str:
    """A code or a type: text, or a number that is written in a word's length."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, int) and abs(value) >= 10**WORD_CHARACTERS_MAX:
        return ""
    return str(value)[:WORD_CHARACTERS_MAX]


def _as_json(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


def _plain_text(text: str) -> str:
    """``text``, or the title of the page that it is."""
    if "<html" not in text[:_HTML_CHARACTERS_MAX].lower() and "<!doctype" not in text[:200].lower():
        return text.strip()
    title = _TITLE.search(text[:_HTML_CHARACTERS_MAX])
    return title[2].strip() if title else ""
