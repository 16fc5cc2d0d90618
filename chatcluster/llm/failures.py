"""What a provider's failure means: whether to try again, when, and what to tell people. Pure.

A failure is judged by its **signals**: the HTTP status, the error object's ``code`` and ``type``, and, last and only
where those leave it open, its words. ``_RULES`` is read from top to bottom and the first rule that matches decides: so
an exhausted quota, which comes as 429, is not retried, although 429 is. Codes are compared by letters and digits alone.

An error that arrives in mid-stream has status 200; its ``code`` may be a number, which then counts as the
status. One that no rule knows is retried there, because the request itself had been accepted.

Texts go to people and into the history: at most 500 characters, printable ones, and never a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple

from chatcluster.errors import ProviderError
from chatcluster.llm import too_long
from chatcluster.llm.error_bodies import ErrorObject, read_error_body, read_error_object
from chatcluster.llm.finish_reasons import FinishReason
from chatcluster.llm.retry_after import read_retry_after
from chatcluster.llm.too_long import READ_CHARACTERS_MAX

DETAIL_CHARACTERS_MAX = 500
SECRET_CHARACTERS_MIN = 6
"""Shorter ones are the dummies that local servers get, and stand in ordinary words."""

_SECRET = re.compile(r"\bsk-[A-Za-z0-9_\-]{12,}|(?<=Bearer )[^\s'\"]+|(?<=://)[^/\s@]+(?=@)", re.IGNORECASE)


@dataclass(frozen=True)
class Provider:
    """The server whose failures these are: the name that people see, and the secrets that they must not see."""

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
        """``text`` on one line of printable characters, without secrets, cut to ``DETAIL_CHARACTERS_MAX``."""
        for secret in self.secrets:
            if len(secret) >= SECRET_CHARACTERS_MIN:
                text = text.replace(secret, "***")
        text = _SECRET.sub("***", text[:READ_CHARACTERS_MAX])
        text = " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
        return text if len(text) <= DETAIL_CHARACTERS_MAX else text[: DETAIL_CHARACTERS_MAX - 1] + "…"


class Verdict(NamedTuple):
    kind: str
    retryable: bool


_IN_STREAM: frozenset[int | None] = frozenset({None, 200})
_OPEN_STATUSES = _IN_STREAM | {400, 404, 422}
"""Statuses (None: in mid-stream) under which servers report very different failures."""


class _Rule(NamedTuple):
    """Matches if any of its parts does. ``texts`` count under ``text_statuses`` alone."""

    verdict: Verdict
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    text_statuses: frozenset[int | None] = _OPEN_STATUSES
    stems: tuple[str, ...] = ()
    """Parts of codes."""
    says_so: Callable[[str], bool] | None = None
    """Counts under ``text_statuses`` as well, where no known text does."""


def _codes(text: str) -> frozenset[str]:
    return frozenset(map(_normal, text.split()))


def _normal(code: str) -> str:
    return re.sub(r"[\W_]+", "", code).lower()


_RULES = (
    _Rule(
        Verdict("usage_limit", retryable=False),
        frozenset({402}),
        _codes(
            "insufficient_quota credit_balance_exhausted organization_spend_limit_exceeded quota_exceeded "
            "project_spend_limit_exceeded organization_usage_limit_exceeded billing_hard_limit_reached "
            "billing_not_active billing_error enforced_spend_limit_reached contract_spend_limit_reached "
            "ramp_limit_exceeded insufficient_balance insufficient_credits exceeded_current_quota_error "
            "payment_required budget_exceeded arrearage insufficient_user_quota 1113 1008"
        ),
        (
            "insufficient balance",
            "insufficient credit",
            "insufficient quota",
            "credit balance is too low",
            "exceeded your budget",
            "budget has been exceeded",
            "requires more credits",
        ),
        _OPEN_STATUSES | {403, 429},
        stems=("spendlimit", "linkedorg"),
    ),
    # A description that is too long: no shorter conversation mends a tool.
    _Rule(Verdict("config", retryable=False), texts=("invalid 'tools",)),
    _Rule(
        Verdict("context_overflow", retryable=False),
        frozenset({413}),
        _codes(too_long.CODES),
        too_long.TEXTS,
        _OPEN_STATUSES | {424, 500},
    ),
    # More than a minute's share in one request, or a prompt that is too long in a wrong status: to wait does not help.
    _Rule(
        Verdict("context_overflow", retryable=False),
        texts=("request too large for",),
        text_statuses=frozenset({429, 502, 503}),
        says_so=too_long.says_so_in_a_wrong_status,
    ),
    _Rule(
        Verdict("opaque_refused", retryable=False),
        codes=_codes("invalid_encrypted_content"),
        texts=(
            "`signature` in `thinking`",
            "signature in thinking block",
            "`thinking` or `redacted_thinking` blocks",
            "expected `thinking` or `redacted_thinking`",
            "item 'rs_",
            "without its required following item",
            "without its required 'reasoning' item",
            "encrypted content",
            "encrypted_content",
            "thought signature",
            "thought_signature",
            "web_search_tool_result",
        ),
        text_statuses=_OPEN_STATUSES,
    ),
    _Rule(
        Verdict("content_filter", retryable=False),
        codes=_codes(
            "content_filter content_policy_violation ResponsibleAIPolicyViolation ContentPolicyViolationError "
            "data_inspection_failed DataInspectionFailed moderation_blocked safety PROHIBITED_CONTENT 1026 1027 1301"
        ),
        texts=(
            "content filter",
            "content policy",
            "content management policy",
            "usage guidelines",
            "usage policies",
            "flagged by moderation",
            "input was flagged",
            "requires moderation",
            "inappropriate content",
        ),
        text_statuses=_OPEN_STATUSES | {403},
    ),
    _Rule(
        Verdict("auth", retryable=False),
        frozenset({401, 403, 407, 511}),
        _codes(
            "invalid_api_key authentication_error permission_error permission_denied unauthorized unauthenticated "
            "PermissionDeniedError AccessDeniedException UnrecognizedClientException invalid_authentication_error "
            "incorrect_api_key_error 1004"
        ),
        ("invalid api key", "incorrect api key", "unauthorized", "authentication failed", "forbidden"),
    ),
    _Rule(
        Verdict("overloaded", retryable=True),
        frozenset({498, 503, 529}),
        _codes(
            "server_is_overloaded overloaded_error overloaded slow_down engine_overloaded unavailable_error "
            "engine_overloaded_error insufficient_system_resource capacity_exceeded model_overloaded "
            "service_unavailable ServiceUnavailableException ServiceUnavailableError UNAVAILABLE "
            "ModelNotReadyException 1305 1312"
        ),
        ("overloaded", "at capacity", "temporarily unavailable", "service unavailable", "loading model"),
        _IN_STREAM,
    ),
    _Rule(
        Verdict("rate_limit", retryable=True),
        frozenset({429}),
        _codes(
            "rate_limit_exceeded rate_limit_error too_many_requests resource_exhausted rate_limit "
            "rate_limit_reached_error ThrottlingException throttling tpm_rate_limit 1002 1039 1302 1303"
        ),
        ("rate limit", "too many requests"),
        _IN_STREAM,
    ),
    _Rule(
        Verdict("timeout", retryable=True),
        frozenset({408, 504, 524}),
        _codes("timeout timeout_error request_timeout deadline_exceeded ModelTimeoutException APITimeoutError"),
        ("timed out", "timeout", "deadline exceeded"),
        _IN_STREAM,
    ),
    _Rule(
        Verdict("config", retryable=False),
        frozenset({501, 505}),
        texts=("input is not supported",),  # an image for a model that reads text alone: llama.cpp says 500
        text_statuses=frozenset({500}),
    ),
    _Rule(
        Verdict("generic", retryable=True),
        frozenset({409, 424, 425, 499, *range(500, 600)}),
        _codes(
            "server_error api_error internal_error internal_server_error internal APIConnectionError "
            "ModelStreamErrorException InternalServerException network_error"
        ),
    ),
    # In words that nobody has heard: a summary is tried, and what the server says is told if that does not help.
    _Rule(
        Verdict("context_overflow", retryable=False),
        text_statuses=frozenset({None, 200, 400, 422}),
        says_so=too_long.says_so,
    ),
    _Rule(
        Verdict("config", retryable=False),
        frozenset(range(300, 500)),
        _codes(
            "model_not_found invalid_request_error bad_request not_found BadRequestError NotFoundError "
            "invalid_argument ValidationException ResourceNotFoundException UnsupportedParamsError"
        ),
        ("model not found", "unknown model", "invalid model", "does not exist"),
    ),
)


def judge(status: int | None, error: ErrorObject) -> Verdict:
    """The verdict on a failure with HTTP ``status`` (None: reported within a successful response)."""
    status = error.status if status is None and error.status is not None else status
    codes = {_normal(error.code), _normal(error.type)} - {""}
    text = error.message[:READ_CHARACTERS_MAX].lower()
    if status in _OPEN_STATUSES and too_long.answer_limit_is_refused(error.message):
        return Verdict("config", retryable=False)
    for rule in _RULES:
        says_so = status in rule.text_statuses and (
            any(words in text for words in rule.texts) or (rule.says_so is not None and rule.says_so(text))
        )
        is_meant = codes & rule.codes or any(stem in code for code in codes for stem in rule.stems)
        if status in rule.statuses or is_meant or says_so:
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
        wait_seconds = read_retry_after(headers, now)
        if wait_seconds is None:
            wait_seconds = error.retry_after_seconds
    return provider.error(
        _describe(provider, status, error, headers),
        verdict.kind,
        retryable=verdict.retryable,
        status_code=status,
        retry_after_seconds=wait_seconds,
    )


def from_stream(provider: Provider, error: object) -> ProviderError:
    """The error for an error object that came in mid-stream, where HTTP had already said 200."""
    return _broken_off(provider, read_error_object(error))


def from_stray_text(provider: Provider, text: bytes) -> ProviderError:
    """The error for a response that was no event stream and no answer: what was said there instead."""
    return _broken_off(provider, read_error_body(text))


def from_finish_reason(provider: Provider, found: FinishReason) -> ProviderError:
    """The error for a finish reason that says that the answer was broken off."""
    error = ErrorObject(found.message or "it was broken off by the server", found.word)
    return _broken_off(provider, error, f" (finish reason {found.word})")


def _broken_off(provider: Provider, found: ErrorObject, code: str = "") -> ProviderError:
    verdict = judge(None, found)
    text = found.message or "no details"
    if not code and (found.code or found.type):
        code = f" ({found.code or found.type})"
    advice = LOWER_THE_LIMIT if verdict.kind == "config" and too_long.answer_limit_is_refused(found.message) else ""
    return provider.error(
        f"{provider.name} broke off its answer{code}: {text}{advice}",
        verdict.kind,
        retryable=verdict.retryable,
        status_code=found.status,
        retry_after_seconds=found.retry_after_seconds if verdict.retryable else None,
    )


def _describe(provider: Provider, status: int, error: ErrorObject, headers: Mapping[str, str]) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
    code = f" ({error.code})" if error.code and error.status is None else ""
    detail = f": {error.message}" if error.message else ""
    return f"{provider.name} answered {status} {phrase}{code}{detail}{_advice(status, error, headers)}"


SPEAK_RESPONSES = "; give it a provider of --kind openai-responses (chatcluster provider add), or set --llm-kind so"
LOWER_THE_LIMIT = "; lower the model's limit of output tokens (chatcluster model set NAME --output-tokens-max)"


def _advice(status: int, error: ErrorObject, headers: Mapping[str, str]) -> str:
    if status in _OPEN_STATUSES and too_long.answer_limit_is_refused(error.message):
        return LOWER_THE_LIMIT
    if status in (400, 404) and "v1/responses" in error.message:
        return SPEAK_RESPONSES
    if 300 <= status < 400 and headers.get("location"):
        return f"; check the base URL (llm-base-url), for redirects are not followed: to {headers['location']}"
    is_elsewhere = 300 <= status < 400 or (status in (404, 405) and not error.code)
    return "; check the base URL (llm-base-url; most end with /v1) and the model" if is_elsewhere else ""
