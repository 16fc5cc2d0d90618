"""Who is dead by lease: judged by the observer's own monotonic clock, which no server's clock can move.

A heartbeat's token changes with each renewal and means nothing else. The observer remembers when it saw each token
first; one that stays for ``lease_ttl_seconds`` of the observer's own time is the token of a dead worker. A wall clock
that steps, forward or backward, neither buries anybody nor keeps anybody from being buried. The burial looks at the
token once more, so an answer that was long on its way, or an observer that froze, buries nobody either.

The lease is safe: a worker stops itself ``lease_margin_seconds`` before ``lease_ttl_seconds`` have passed since its
last good renewal *began*, and the observer's count begins when it has *seen* that renewal, which is later.

A failover may take renewals back that nobody here has seen: a token that the promoted server shows may be older than
the worker's last good renewal. So on another WAL timeline all counts begin anew.

**Abandoned rows.** A new observer would have to wait for a whole lease before it frees the chats of a cluster that died
an hour ago. So it takes less for a worker that has never renewed under its eyes: a row that is older than a lease by
the database's clock, the same token for two heartbeats, and session locks that are free at the burial. A clock that
stepped makes the first true, and none of the others. A worker that is cut off in the same moment may still be at work
then, for at most the rest of its lease: it takes no effect, as the fences of Postgres and the stream see to that.

Pure: time and heartbeats are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from uuid import UUID

from chatcluster.ports import NO_ROW, Heartbeat, Silence

ABANDONED_HEARTBEATS = 2


class FailureDetector:
    """What one observer has seen of the others."""

    def __init__(self, *, heartbeat_seconds: float, lease_ttl_seconds: float) -> None:
        self._abandoned_seconds = ABANDONED_HEARTBEATS * heartbeat_seconds
        self._lease_ttl_seconds = lease_ttl_seconds
        self._tokens: dict[UUID, str] = {}
        self._timeline: int | None = None
        """The last that a server told."""
        self._since: dict[UUID, float] = {}
        """When each token was seen first."""
        self._renewed: set[UUID] = set()
        """The workers that have renewed since this observer saw them first."""
        self._next_verdict = math.inf

    def __repr__(self) -> str:
        return f"<FailureDetector {len(self._tokens)} workers>"

    def seconds_to_verdict(self, now: float) -> float:
        """When to look again at the latest: the next time at which a worker's silence can be long enough."""
        return max(0.0, self._next_verdict - now)

    def observe(self, heartbeats: Mapping[UUID, Heartbeat], now: float) -> dict[UUID, Silence]:
        """The workers that are dead by what was seen so far, each with the proof that the burial checks again."""
        self._begin_anew_after_failover(heartbeats)
        self._remember({worker_id: heartbeat.token for worker_id, heartbeat in heartbeats.items()}, now)
        self._next_verdict = math.inf
        verdicts = {worker_id: self._verdict(worker_id, heartbeats[worker_id], now) for worker_id in heartbeats}
        return {worker_id: silence for worker_id, silence in verdicts.items() if silence is not None}

    def _begin_anew_after_failover(self, heartbeats: Mapping[UUID, Heartbeat]) -> None:
        told = next((beat.timeline for beat in heartbeats.values() if beat.timeline is not None), self._timeline)
        if self._timeline not in (None, told):
            self._tokens = {}
        self._timeline = told

    def _remember(self, tokens: dict[UUID, str], now: float) -> None:
        same = {worker_id for worker_id, token in tokens.items() if self._tokens.get(worker_id) == token}
        self._renewed = {w for w in tokens if w in self._renewed or (w in self._tokens and w not in same)}
        self._since = {worker_id: self._since[worker_id] if worker_id in same else now for worker_id in tokens}
        self._tokens = tokens

    def _verdict(self, worker_id: UUID, heartbeat: Heartbeat, now: float) -> Silence | None:
        if not heartbeat.token:
            return NO_ROW
        since = self._since[worker_id]
        if self._has_passed(since + self._lease_ttl_seconds, now):
            return Silence(heartbeat.token)
        if self._seems_abandoned(worker_id, heartbeat) and self._has_passed(since + self._abandoned_seconds, now):
            return Silence(heartbeat.token, unlocked=True)
        return None

    def _seems_abandoned(self, worker_id: UUID, heartbeat: Heartbeat) -> bool:
        old = heartbeat.age_seconds >= self._lease_ttl_seconds
        return old and heartbeat.session_locks > 0 and worker_id not in self._renewed

    def _has_passed(self, deadline: float, now: float) -> bool:
        if now < deadline:
            self._next_verdict = min(self._next_verdict, deadline)
        return now >= deadline
