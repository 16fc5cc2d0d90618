"""Which workspaces nobody works in any more, by this host's own clock.

How long one may be idle is told by the database when somebody worked in it last; that it is over, this host finds by
itself. So a clock of the database that is set forward stops nothing that is in use, and one that is set back keeps
nothing running. The database asks once more, under the row's lock, whether it was used meanwhile.

Pure: time and rows are handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from chatcluster.ports.workspaces import LastUse


class _Time(NamedTuple):
    last_used_at: datetime
    ends_at: float


class IdleWatch:
    """What a host has seen of the use of its workspaces."""

    def __init__(self) -> None:
        self._times: Mapping[UUID, _Time] = {}

    def observe(self, uses: Collection[LastUse], now: float) -> tuple[LastUse, ...]:
        """Those whose time is over, of all that run here."""
        self._times = {use.workspace_id: self._time_of(use, now) for use in uses}
        return tuple(use for use in uses if self._times[use.workspace_id].ends_at <= now)

    def _time_of(self, use: LastUse, now: float) -> _Time:
        known = self._times.get(use.workspace_id)
        if known is not None and known.last_used_at == use.last_used_at:
            return known
        return _Time(use.last_used_at, now + use.seconds_left)
