"""What every replica does for workspaces: dead hosts are told, and a chat at work keeps its workspace running.

**Hosts** are judged as replicas are: a token that did not change for a lease of this observer's own time is that of a
dead host (``failure_detector.py``). The burial looks at the token once more, and tells what ran there lost. Every
replica looks; the first one does it.

**Use.** The workspaces of all chats that this replica has at work get their time anew, by one statement for all of
them; it writes a row only once a twentieth of that time has passed.

A look that fails is told, and the next one comes. Where there are no hosts it is seldom.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NoReturn
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable
from chatcluster.failure_detector import FailureDetector
from chatcluster.ports.workspaces import WorkspaceHosts, Workspaces

LOOK_SECONDS = 1.0
SELDOM_SECONDS = 10.0
"""Between looks where there is no host."""
BUMP_SECONDS = 30.0


class WorkspaceWatch:
    def __init__(
        self,
        workspaces: Workspaces,
        hosts: WorkspaceHosts,
        settings: Settings,
        worker_id: Callable[[], UUID],
    ) -> None:
        self._workspaces = workspaces
        self._hosts = hosts
        self._worker_id = worker_id
        self._detector = FailureDetector(
            heartbeat_seconds=settings.ownership.heartbeat_seconds,
            lease_ttl_seconds=settings.ownership.lease_ttl_seconds,
        )
        self._bumped_at = float("-inf")

    async def run(self) -> NoReturn:
        while True:
            pause_seconds = LOOK_SECONDS
            try:
                pause_seconds = await self._look()
            except StoreUnavailable as error:
                telemetry.event("workspace.host_look_failed", error=str(error))
            await trio.sleep(pause_seconds * random.uniform(0.75, 1.25))

    async def _look(self) -> float:
        heartbeats = await self._hosts.heartbeats()
        now = trio.current_time()
        for host_id, silence in self._detector.observe(heartbeats, now).items():
            await self._bury(host_id, silence.token)
        if not heartbeats:
            return SELDOM_SECONDS
        if now >= self._bumped_at + BUMP_SECONDS:
            await self._workspaces.bump_owned(self._worker_id())
            self._bumped_at = now
        return min(LOOK_SECONDS, self._detector.seconds_to_verdict(now) or LOOK_SECONDS)

    async def _bury(self, host_id: UUID, token: str) -> None:
        """A host that cannot be buried holds up neither the burial of another one nor the look at what chats use."""
        try:
            lost = await self._hosts.bury(host_id, token)
        except StoreUnavailable as error:
            telemetry.event("workspace.host_look_failed", error=str(error))
            return
        if lost is not None:
            telemetry.event("workspace.host_buried", host_id=str(host_id), workspaces=len(lost))
