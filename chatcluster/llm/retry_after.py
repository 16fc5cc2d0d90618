"""When a provider wants to be asked again: headers, and durations in bodies, as seconds from now. Pure.

Dates are compared with the provider's own clock where it tells the time (``date``), because only the difference is
meant. What lies in the past is 0, and what is absurdly far is a day. What becomes of it is the runner's matter: it
never waits less than its own back-off, nor longer than ``retry_after_cap_seconds``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRY_AFTER_SECONDS_MAX = 86_400.0
TEXT_CHARACTERS_MAX = 80

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LIMITS = (
    *(("x-ratelimit-remaining" + limit, "x-ratelimit-reset" + limit) for limit in ("", "-requests", "-tokens")),
    *(
        (f"anthropic-ratelimit-{limit}-remaining", f"anthropic-ratelimit-{limit}-reset")
        for limit in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
"""What remains of each limit, and when there is more."""
_EPOCH_SECONDS_MIN = 1.5e9
"""A plain number from here on is no duration but a date in seconds since 1970,"""
_EPOCH_MILLISECONDS_MIN = 1e12
"""and from here on one in milliseconds."""


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the provider asks to wait, from 0 to the maximum; None if it does not say.

    ``headers`` has lower-case names, ``now`` a time zone. Read in this order: ``retry-after-ms``, ``retry-after``, and
    the moments at which there is more of those limits of which nothing remains.
    """
    now = _http_date(headers.get("date", "")) or now
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    seconds = read_wait(headers.get("retry-after", ""), now)
    if seconds is not None:
        return seconds
    resets = [
        read_wait(headers.get(reset, ""), now)
        for remaining, reset in _LIMITS
        if _number(headers.get(remaining, "")) == 0
    ]
    return max((seconds for seconds in resets if seconds is not None), default=None)


def read_wait(text: str, now: datetime) -> float | None:
    """Seconds from a duration, or until a date: of HTTP, of ISO 8601, or as a number since 1970."""
    text = text.strip()[:TEXT_CHARACTERS_MAX]
    number = _number(text)
    if number is None or number < _EPOCH_SECONDS_MIN:
        seconds = read_duration(text)
        return _until(_http_date(text) or _iso_date(text), now) if seconds is None else seconds
    if number >= _EPOCH_MILLISECONDS_MIN:
        number /= 1000
    return _bounded(number - now.timestamp())


def read_duration(text: str) -> float | None:
    """Seconds from ``7``, ``0.5``, ``1m2.5s`` or ``120ms``; None for anything else."""
    number = _number(text)
    if number is not None:
        return _bounded(number)
    parts = _DURATION.findall(text)
    if not parts or "".join(digits + unit for digits, unit in parts) != text:
        return None
    return _bounded(sum(float(digits) * _UNIT_SECONDS[unit] for digits, unit in parts))


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _http_date(text: str) -> datetime | None:
    try:
        return _with_zone(parsedate_to_datetime(text[:TEXT_CHARACTERS_MAX]))
    except (ValueError, OverflowError):
        return None


def _iso_date(text: str) -> datetime | None:
    try:
        return _with_zone(datetime.fromisoformat(text))
    except ValueError:
        return None


def _with_zone(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _until(when: datetime | None, now: datetime) -> float | None:
    return None if when is None else _bounded((when - now).total_seconds())


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
