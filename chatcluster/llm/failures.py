"""What a provider's failure means: whether to try again, when, and what to tell people. Pure.

A failure is judged by its **signals**: the HTTP status, the error object's ``code`` and ``type``, and, last
and only where those leave it open, its words. ``_RULES`` is read from top to bottom and the first rule that
matches decides, so a narrow rule stands above the broad one: an exhausted quota comes as 429 and is
never retried, although 429 is.

An error that arrives in mid-stream has status 200; its ``code`` may be a number, which then counts as the
status. One that no rule knows is retried there, because the request itself had been accepted.

Texts go to people and into the history: at most 500 characters, and never a secret.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec

from chatcluster.errors import ProviderError

_T = TypeVar("_T")

DETAIL_CHARACTERS_MAX = 500
RETRY_AFTER_SECONDS_MAX = 3600.0
ERROR_DEPTH_MAX = 8
SECRET_CHARACTERS_MIN = 6
"""Shorter ones are the dummies that local servers get, and stand in ordinary words."""

_SECRET = re.compile(r"\bsk-[A-Za-z0-9_\-]{12,}|(?<=Bearer )[^\s'\"]+|(?<=://)[^/\s@]+(?=@)")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Provider:
    """Whose failures these are: the name that people see, and the secrets that they must not see."""

    name: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def error(
        self,
        message: str,
        kind: str,
        *,
        retryable: bool = False,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> ProviderError:
        return ProviderError(
            self.redact(message),
            kind=kind,
            retryable=retryable,
            status_code=status_code,
            retry_after_seconds=retry_after_seconds,
            provider=self.name,
        )

    def redact(self, text: str) -> str:
        """``text`` on one line, without secrets, cut to ``DETAIL_CHARACTERS_MAX``."""
        for secret in self.secrets:
            if len(secret) >= SECRET_CHARACTERS_MIN:
                text = text.replace(secret, "***")
        text = " ".join(_SECRET.sub("***", text).replace("\0", "").split())
        return text if len(text) <= DETAIL_CHARACTERS_MAX else text[: DETAIL_CHARACTERS_MAX - 1] + "…"


class Verdict(NamedTuple):
    kind: str
    retryable: bool


class ErrorObject(NamedTuple):
    """A provider's error, whatever its shape was."""

    message: str = ""
    code: str = ""
    type: str = ""
    retry_after_seconds: float | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status that the code stands for, if it is one."""
        return int(self.code) if re.fullmatch(r"[45]\d\d", self.code) else None


class _Rule(NamedTuple):
    """Matches if any of its parts does. ``texts`` count only where the status leaves the matter open."""

    verdict: Verdict
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RULES = (
    _Rule(
        Verdict("usage_limit", retryable=False),
        frozenset({402}),
        _words(
            "insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded quota_exceeded "
            "project_spend_limit_exceeded organization_usage_limit_exceeded billing_hard_limit_reached "
            "billing_not_active billing_error enforced_spend_limit_reached contract_spend_limit_reached "
            "ramp_limit_exceeded insufficient_balance"
        ),
        ("insufficient balance", "insufficient credit", "credit balance is too low"),
    ),
    _Rule(
        Verdict("context_length", retryable=False),
        frozenset({413}),
        _words("context_length_exceeded exceed_context_size_error model_context_window_exceeded request_too_large"),
        (
            "maximum context length",
            "context length exceeded",
            "context window",
            "context size",
            "prompt is too long",
            "input is too long",
        ),
    ),
    _Rule(
        Verdict("content_filter", retryable=False),
        codes=_words("content_filter content_policy_violation responsibleaipolicyviolation"),
    ),
    _Rule(
        Verdict("auth", retryable=False),
        frozenset({401, 403, 407}),
        _words("invalid_api_key authentication_error permission_error permission_denied unauthorized unauthenticated"),
        ("invalid api key", "incorrect api key", "unauthorized", "authentication failed", "forbidden"),
    ),
    _Rule(
        Verdict("overloaded", retryable=True),
        frozenset({503, 529}),
        _words("server_is_overloaded overloaded_error overloaded slow_down engine_overloaded unavailable_error"),
    ),
    _Rule(
        Verdict("rate_limit", retryable=True),
        frozenset({429}),
        _words("rate_limit_exceeded rate_limit_error too_many_requests resource_exhausted"),
    ),
    _Rule(
        Verdict("timeout", retryable=True),
        frozenset({408, 504, 524}),
        _words("timeout timeout_error request_timeout deadline_exceeded"),
    ),
    _Rule(
        Verdict("generic", retryable=True),
        frozenset({409, 425, *range(500, 600)}),
        _words("server_error api_error internal_error internal_server_error internalservererror"),
    ),
    _Rule(
        Verdict("config", retryable=False),
        frozenset(range(300, 500)),
        _words("model_not_found invalid_request_error bad_request not_found badrequesterror notfounderror"),
        ("model not found", "unknown model", "invalid model", "does not exist"),
    ),
)

_OPEN_STATUSES: frozenset[int | None] = frozenset({None, 200, 400, 404, 422})
"""Statuses (None: in mid-stream) under which servers report very different failures."""


def judge(status: int | None, error: ErrorObject) -> Verdict:
    """The verdict on a failure with HTTP ``status`` (None: reported within a successful response)."""
    status = error.status if status is None and error.status is not None else status
    codes = {error.code.lower(), error.type.lower()} - {""}
    text = error.message.lower() if status in _OPEN_STATUSES else ""
    for rule in _RULES:
        if status in rule.statuses or codes & rule.codes or any(words in text for words in rule.texts):
            return rule.verdict
    return Verdict("generic", retryable=True)


def from_response(
    provider: Provider, status: int, headers: Mapping[str, str], body: bytes, *, now: datetime
) -> ProviderError:
    """The error for a response with a failing ``status``. ``now``, with time zone, is for dates in headers."""
    error = read_error_body(body)
    verdict = judge(status, error)
    wait_seconds = None
    if verdict.retryable:
        wait_seconds = _first(read_retry_after(headers, now), error.retry_after_seconds)
    return provider.error(
        _describe(provider, status, error),
        verdict.kind,
        retryable=verdict.retryable,
        status_code=status,
        retry_after_seconds=wait_seconds,
    )


def from_stream(provider: Provider, error: object) -> ProviderError:
    """The error for an error object that came in mid-stream, where HTTP had already said 200."""
    found = read_error_object(error)
    verdict = judge(None, found)
    text = found.message or "no details"
    code = f" ({found.code or found.type})" if found.code or found.type else ""
    return provider.error(
        f"{provider.name} broke off its answer{code}: {text}",
        verdict.kind,
        retryable=verdict.retryable,
        status_code=found.status,
        retry_after_seconds=found.retry_after_seconds if verdict.retryable else None,
    )


def _describe(provider: Provider, status: int, error: ErrorObject) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
    code = f" ({error.code})" if error.code and error.status is None else ""
    hint = ""
    if 300 <= status < 400 or (status in (404, 405) and not error.code):
        hint = "; check the base URL (llm-base-url) and the model"
    detail = f": {error.message}" if error.message else ""
    return f"{provider.name} answered {status} {phrase}{code}{detail}{hint}"


# --- error bodies -----------------------------------------------------------------------------


def read_error_body(body: bytes) -> ErrorObject:
    """The error in a failing response's body: JSON of several shapes, HTML, or plain text."""
    try:
        return read_error_object(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode("utf-8", "replace")
    if "<html" in text.lower():
        title = _TITLE.search(text)
        text = title[1] if title else ""
    return ErrorObject(message=text.strip())


def read_error_object(value: object, depth_max: int = ERROR_DEPTH_MAX) -> ErrorObject:
    """``{"error": {...}}``, ``{"error": "text"}``, ``[{...}]``, ``{"detail": ...}``, the inner object, or text."""
    if depth_max == 0:
        return ErrorObject()
    if isinstance(value, list) and value:
        return read_error_object(value[0], depth_max - 1)
    if not isinstance(value, dict):
        return ErrorObject(message=value if isinstance(value, str) else "")
    inner = value.get("error")
    if isinstance(inner, dict | list) and inner:
        return read_error_object(inner, depth_max - 1)
    details = value.get("details")
    message = _first(value.get("message"), value.get("detail"), inner, value.get("error_description"))
    return ErrorObject(
        message=message if isinstance(message, str) else _as_json(message),
        code=_as_word(_first(_detail(details, "error_code"), value.get("code"))),
        type=_as_word(_first(value.get("type"), value.get("status"))),
        retry_after_seconds=_duration_seconds(_as_word(_detail(details, "retryDelay"))),
    )


def _detail(details: Any, key: str) -> object:
    """``details`` is an object with some providers and a list of objects with others."""
    candidates = details if isinstance(details, list) else [details]
    return _first(*(item.get(key) for item in candidates if isinstance(item, dict)))


def _first(*values: _T | None) -> _T | None:
    return next((value for value in values if value is not None), None)


def _as_word(value: object) -> str:
    return str(value)[:80] if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _as_json(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


# --- when to come back ------------------------------------------------------------------------


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the provider asks to wait, from 0 to an hour; None if it does not say.

    ``headers`` has lower-case names. Read in this order: ``retry-after-ms``, ``retry-after`` (seconds or an
    HTTP date), and the ``x-ratelimit-reset-*`` of those limits of which nothing remains.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    text = headers.get("retry-after")
    if text is not None:
        seconds = _first(_number(text), _seconds_until(text, now))
        if seconds is not None:
            return _bounded(seconds)
    resets = [
        _duration_seconds(headers.get(f"x-ratelimit-reset-{limit}", ""))
        for limit in ("requests", "tokens")
        if _number(headers.get(f"x-ratelimit-remaining-{limit}")) == 0
    ]
    known = [seconds for seconds in resets if seconds is not None]
    return max(known) if known else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _seconds_until(text: str, now: datetime) -> float | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now.timestamp()


def _duration_seconds(text: str) -> float | None:
    """``6m0s``, ``1.5s``, ``120ms``, or plain seconds."""
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return _bounded(sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts))
    seconds = _number(text)
    return None if seconds is None else _bounded(seconds)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
