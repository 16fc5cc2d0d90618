"""Errors as clients of OpenAI's API expect them: ``{"error": {"message", "type", "param", "code"}}``. Pure.

Those clients repeat a request that was answered with 409, three times in a second. Of ours none is better for that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PREFIX = "/v1"
CODES = {"invalid_token": "invalid_api_key", "unknown_model": "model_not_found", "too_many": "rate_limit_exceeded"}
TYPES = {401: "authentication_error", 403: "permission_error", 409: "conflict_error", 429: "rate_limit_error"}
RETRY_AFTER_MAX = 120
"""Seconds. Told to wait for longer these clients give up at once."""


class Formed(NamedTuple):
    status: int
    error: dict[str, Any]
    headers: dict[str, str]


def is_of_door(path: str) -> bool:
    return path == PREFIX or path.startswith(PREFIX + "/")


def formed(status: int, error: dict[str, Any], headers: dict[str, str]) -> Formed:
    """An error of ours in the form of this door; with what else it says."""
    code = str(error["code"])
    status = 404 if code == "unknown_model" else status
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    said = {"message": error["message"], "type": kind, "param": error.get("param"), "code": CODES.get(code, code)}
    more = dict(headers)
    if status == 409:
        more["x-should-retry"] = "false"
    if more.get("Retry-After", "").isdigit():
        more["Retry-After"] = str(min(int(more["Retry-After"]), RETRY_AFTER_MAX))
    return Formed(status, said, more)
