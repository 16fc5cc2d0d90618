"""P4 while it happens: a chat that has work has somebody who does it, or gets somebody within the bound.

A chat is **served** if the worker that owns it is alive, awake, reaches Postgres and runs it. The bound holds for a
chat while somebody could serve it all the time: a process that is alive, awake and in touch, with a free slot. It holds
anew for each tenure that was taken up: one whose owner fell out of touch before the next look has served for a moment.
And it holds anew after each failover, however short: all count the silence of the others from its beginning then
(``failure_detector.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import trio
from checker import Kind

from chatcluster.memory.tables import ChatRow

if TYPE_CHECKING:
    from simulation.process import ReplicaProcess
    from simulation.run import World

LOOK_SECONDS = 0.25
SERVED_SECONDS_MAX = 5.0
"""The lease, a sweep and a poll for claims, on the slowest clock: 6 s with the deployed settings."""


class Vigil:
    """``run`` looks at every chat now and then, until it is cancelled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._fit_since: dict[ReplicaProcess, float] = {}
        self._unserved_since: dict[UUID, float] = {}
        self._timeline = world.witness.database.timeline
        self._taken_up: dict[UUID, int] = {}
        """The newest tenure of each chat that a runner was seen in."""

    async def run(self) -> None:
        while True:
            await trio.sleep(LOOK_SECONDS)
            if self._world.weather.fair:
                self._look()
            else:
                self._fit_since.clear()

    def _look(self) -> None:
        now, timeline = self._world.now, self._world.witness.database.timeline
        if timeline != self._timeline:
            self._timeline = timeline
            self._unserved_since.clear()
        fit = [process for process in self._world.processes.present if process.fit]
        self._fit_since = {process: self._fit_since.get(process, now) for process in fit}
        for row in self._world.witness.database.chats.values():
            harmed = row.id in self._world.witness.harmed.chats
            if not row.state.runnable or harmed or self._was_taken_up(row) or self._served(row):
                self._unserved_since.pop(row.id, None)
                continue
            since = self._unserved_since.setdefault(row.id, now)
            helped = any(fit_since <= since for fit_since in self._fit_since.values())
            if helped and now - since > SERVED_SECONDS_MAX:
                owner = self._world.witness.name_of(row.state.worker_id)
                detail = f"{row.state.status}, owned by {owner}, and served by nobody for {now - since:.1f} s"
                self._world.witness.violate(Kind.STUCK, row.id, detail)
                self._unserved_since[row.id] = float("inf")  # said once

    def _served(self, row: ChatRow) -> bool:
        return any(process.in_touch and process.runs(row.id) for process in self._owners(row))

    def _was_taken_up(self, row: ChatRow) -> bool:
        """Whether its tenure has begun since the last look: who runs it was in touch when the claim was answered."""
        begun = any(process.runs(row.id) for process in self._owners(row))
        is_new = begun and row.state.epoch > self._taken_up.get(row.id, 0)
        if is_new:
            self._taken_up[row.id] = row.state.epoch
        return is_new

    def _owners(self, row: ChatRow) -> list[ReplicaProcess]:
        processes = (*self._world.processes.present, *self._world.processes.past)
        return [process for process in processes if process.worker_id == row.state.worker_id]
