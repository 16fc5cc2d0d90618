"""Errors as clients of OpenAI's API expect them: ``{"error": {"message", "type", "param", "code"}}``. Pure.

Those clients repeat a request that was answered with 409 or 429, three times in a second. Of ours no 409 is better for
that, nor is a user's limit that is spent: it is 429 here, as those clients know it, and says not to ask again.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

PREFIX = "/v1"
_MISSED = re.compile(r"/(responses|conversations|chat/completions|models)(/.*)?", re.DOTALL)
NO_DOOR = "there is nothing at this address: OpenAI's API is below /v1 here, so let the base URL end with that"
SPENT = "insufficient_quota"
CODES = {
    "invalid_token": "invalid_api_key",
    "unknown_model": "model_not_found",
    "too_many": "rate_limit_exceeded",
    "usage_limit": SPENT,
    "usage_limit_exceeded": SPENT,
}
STATUSES = {"unknown_model": 404, "usage_limit": 429, "usage_limit_exceeded": 429}
"""The status of errors for which this API has another one."""
TYPES = {401: "authentication_error", 403: "permission_error", 409: "conflict_error", 429: "rate_limit_error"}
SPENT_RETRY_SECONDS = 120
"""The most that these clients wait for: told of more, they give up at once."""


class Formed(NamedTuple):
    status: int
    error: dict[str, Any]
    headers: dict[str, str]


def is_of_door(path: str) -> bool:
    return path == PREFIX or path.startswith(PREFIX + "/")


def misses_door(path: str) -> bool:
    """Whether a client of this API was told another base URL."""
    return _MISSED.fullmatch(path) is not None


def formed(status: int, error: dict[str, Any], headers: dict[str, str]) -> Formed:
    """An error of ours in the form of this door; with what else it says."""
    known = str(error["code"])
    status, code = STATUSES.get(known, status), CODES.get(known, known)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    said = {"message": error["message"], "type": kind, "param": error.get("param"), "code": code}
    more = dict(headers)
    if status == 409 or code == SPENT:
        more["x-should-retry"] = "false"
    if code == SPENT:
        more["Retry-After"] = str(SPENT_RETRY_SECONDS)
    return Formed(status, said, more)
