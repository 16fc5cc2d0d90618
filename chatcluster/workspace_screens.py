"""The screens of workspaces, for people who look on: pictures of them, as many readers as there may be.

One look at a workspace at a time, and what it found is the answer to all who ask within ``FRESH_SECONDS``: so a
workspace draws two pictures a second at most for one replica, however many ask and how often. Nothing is kept longer
than that, but for what was looked at last.

What happens on failure: it is raised to all who ask within that time, ``LOOK_SECONDS_MAX`` after they asked at the
latest; the next one looks again.
"""

from __future__ import annotations

import math
from hashlib import sha256
from typing import NamedTuple, Protocol
from uuid import UUID

import trio

from chatcluster.errors import ChatclusterError, Conflict
from chatcluster.fair_places import FairPlaces
from chatcluster.file_types import IMAGES
from chatcluster.ports.workspace import SILENCE_SECONDS, Workspace
from chatcluster.ports.workspaces import WorkspaceRow, WorkspaceState
from chatcluster.workspace_errors import WorkspaceGone, WorkspaceNotRunning, WorkspaceRefused, WorkspaceUnreachable

FRESH_SECONDS = 0.5
LOOK_SECONDS_MAX = 2 * SILENCE_SECONDS
LOOKS_AT_ONCE = 32
LOOKS_OF_USER_MAX = 8


class NoDesktop(Conflict):
    """The workspace has no screen, or its screen cannot be seen; the message says why."""

    code = "no_desktop"


class Picture(NamedTuple):
    """``digest``: of its bytes, in hexadecimal digits."""

    content: bytes
    media_type: str
    digest: str


class Directory(Protocol):
    async def workspace(self, workspace_id: UUID) -> Workspace: ...


class _Look:
    """The last one at a workspace."""

    def __init__(self) -> None:
        self.turn = trio.Lock()
        self.found: Picture | ChatclusterError | None = None
        self.at = -math.inf

    @property
    def is_fresh(self) -> bool:
        return trio.current_time() - self.at < FRESH_SECONDS


class WorkspaceScreens:
    """One for a replica."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._looks: dict[UUID, _Look] = {}
        self._places = FairPlaces(LOOKS_AT_ONCE, each=LOOKS_OF_USER_MAX)

    def __repr__(self) -> str:
        return f"<WorkspaceScreens looks={len(self._looks)}>"

    async def look(self, workspace: WorkspaceRow) -> Picture:
        """What is on its screen. Raises ``NoDesktop``, ``WorkspaceNotRunning`` and ``WorkspaceUnreachable``."""
        if not workspace.made_of.settings.desktop:
            raise NoDesktop("this workspace has no screen: its template has none")
        if workspace.state is not WorkspaceState.RUNNING:
            raise WorkspaceNotRunning(f"the workspace is {workspace.state}; start it to see its screen")
        look = self._look_at(workspace.id)
        try:
            with trio.fail_after(LOOK_SECONDS_MAX):
                async with look.turn:
                    if look.found is None or not look.is_fresh:
                        look.found = await self._found(workspace)
                        look.at = trio.current_time()
        except trio.TooSlowError:
            raise WorkspaceUnreachable("the workspace does not show its screen in time") from None
        if isinstance(look.found, Picture):
            return look.found
        raise look.found

    def _look_at(self, workspace_id: UUID) -> _Look:
        for other, look in list(self._looks.items()):
            if not look.is_fresh and not look.turn.locked() and other != workspace_id:
                del self._looks[other]
        return self._looks.setdefault(workspace_id, _Look())

    async def _found(self, workspace: WorkspaceRow) -> Picture | ChatclusterError:
        try:
            async with self._places.taken(workspace.owner_id):
                screen = await (await self._directory.workspace(workspace.id)).screen()
        except WorkspaceGone as error:
            return WorkspaceNotRunning(str(error))
        except WorkspaceRefused as refused:
            return NoDesktop(str(refused))
        except WorkspaceUnreachable as error:
            return error
        if screen.mime_type not in IMAGES:
            return NoDesktop("the workspace shows what is no picture")
        return Picture(screen.screenshot, screen.mime_type, sha256(screen.screenshot).hexdigest())
