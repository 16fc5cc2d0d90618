"""The way from a chat's tools to the agent of its workspace, for one turn.

The workspace is looked up when a tool first needs it, and kept for the turn. Agents of a chat work in the workspace of
the chat at the top of their family.

What happens on failure: an agent that cannot be reached, or is silent, is looked up anew and asked once more; what was
asked has an ID, or changes nothing, so it is carried out once. ``ANSWER_SECONDS_MAX`` after the question it is over in
any case: ``Refused``, in words for the model. The words differ where it makes a difference what the model does next:
one that does not answer may answer in a moment, one that is stopped does not until it is started.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar
from uuid import UUID

import trio

from chatcluster.errors import CallerError, StoreUnavailable, Unreadable
from chatcluster.ports import Chat
from chatcluster.ports.workspace import Workspace
from chatcluster.ports.workspaces import WorkspaceRow, Workspaces, WorkspaceState
from chatcluster.workspace_errors import StaleEpoch, UnknownCall, WorkspaceGone, WorkspaceRefused, WorkspaceUnreachable

ANSWER_SECONDS_MAX = 5.0
FIRST_SECONDS_MAX = 2.5
"""The time for the first try, where the agent is silent."""
BUMP_SECONDS = 30.0
"""Between two looks at how long the workspace is kept for those who work in it."""

Answer = TypeVar("Answer")

NONE_YET = "This chat has no workspace yet. Create one with create_workspace; list_templates says of what."
NONE_OF_AGENTS = (
    "The chat that you work for has no workspace, and you cannot make one. Say so in your report, and what you need it "
    "for."
)
SILENT = (
    "The workspace does not answer right now. Nothing is known to be wrong with it: try once more. If it is still "
    "silent then, stop_workspace and start_workspace bring it back, with its files."
)
GONE = (
    "The workspace does not run any more, though nobody stopped it: stop_workspace and start_workspace bring it back, "
    "with its files. What ran in it has ended."
)
NO_PROCESS = "There is no process of this ID. process_list names those that there are."
NO_LOOKUP = "The workspace cannot be looked up right now. Try again in a moment."
STATES = {
    WorkspaceState.BUILDING: "The workspace is just being built. Try again in a moment; create_workspace waits.",
    WorkspaceState.STARTING: "The workspace is just starting. Try again in a moment; start_workspace waits for it.",
    WorkspaceState.STOPPING: "The workspace is just stopping. Start it again with start_workspace.",
    WorkspaceState.STOPPED: "The workspace is stopped, its files are kept. Start it with start_workspace.",
    WorkspaceState.FAILED: "The workspace failed{detail}. Try start_workspace, or make another with create_workspace.",
    WorkspaceState.LOST: "The machine of the workspace is gone{detail}. start_workspace brings it back if the machine "
    "is there again; if not, make another with create_workspace.",
    WorkspaceState.DELETED: "The workspace was deleted. Make another with create_workspace.",
}


class Refused(Exception):
    """A refusal in words for the model."""


class Silent(Refused):
    """The workspace does not answer."""


class Directory(Protocol):
    """Where the agents of workspaces are."""

    async def workspace(self, workspace_id: UUID) -> Workspace:
        """The agent, looked up anew; nothing is dialled yet. Raises ``WorkspaceUnreachable`` where no host has it."""
        ...


Touched = Callable[[WorkspaceRow], None]
"""Called with a workspace whose files may have changed. Never waits."""


def nobody_looks(_workspace: WorkspaceRow) -> None:
    """Nobody wants to know what changed."""


class Link:
    """``has_been_silent``: some tool has found in this turn that it does not answer. ``is_silent``: the last tool that
    asked it has."""

    def __init__(self, chat: Chat, rows: Workspaces, directory: Directory, touched: Touched = nobody_looks) -> None:
        self.chat = chat
        self.rows = rows
        self.has_been_silent = False
        self.is_silent = False
        self._directory = directory
        self._touched = touched
        self._row: WorkspaceRow | None = None
        self._place: Workspace | None = None
        self._bumped_at = -math.inf

    def __repr__(self) -> str:
        return f"<Link of {self.chat.family_id} to {self._place}>"

    @property
    def row(self) -> WorkspaceRow | None:
        """The workspace as it was when it was last looked up in this turn."""
        return self._row

    def forget(self) -> None:
        """Look the workspace up anew: it is another one now, or runs anew."""
        self._row = self._place = None
        self.is_silent = False

    async def look_up(self) -> WorkspaceRow | None:
        """The chat's workspace, if it has one. Raises ``Refused`` if that cannot be said."""
        with _reading_rows():
            self._row = await self.rows.of_chat(self.chat.family_id)
        return self._row

    async def existing(self) -> WorkspaceRow:
        """The chat's workspace. Raises ``Refused`` if there is none."""
        row = await self.look_up()
        if row is None:
            raise Refused(NONE_OF_AGENTS if self.chat.depth else NONE_YET)
        return row

    async def ask(self, question: Callable[[Workspace], Awaitable[Answer]]) -> Answer:
        """Ask the agent of the chat's workspace, which has to run, for a tool. Raises ``Refused``."""
        try:
            return await self.look(question)
        except Silent:
            self.has_been_silent = True
            raise

    async def look(self, question: Callable[[Workspace], Awaitable[Answer]]) -> Answer:
        """As ``ask``, for no tool of the model's. Raises ``Refused``."""
        words = SILENT
        with trio.move_on_after(ANSWER_SECONDS_MAX):
            for seconds_max in (FIRST_SECONDS_MAX, math.inf):
                try:
                    place = self._place or await self._find()
                    with trio.fail_after(seconds_max):
                        answer = await _asked(place, question)
                    self.is_silent = False
                    return answer
                except (WorkspaceUnreachable, trio.TooSlowError) as error:
                    self._place = None
                    words = GONE if isinstance(error, WorkspaceGone) else SILENT
        self._place, self.is_silent = None, True
        raise Silent(words)

    async def is_answering(self) -> bool:
        """Whether the agent answers now, within the bound of any question."""
        try:
            await self.look(lambda place: place.status())
        except Refused:
            return False
        return True

    def touch(self) -> None:
        """Files may have changed there."""
        if self._row is not None:
            self._touched(self._row)

    async def bump(self) -> None:
        """Somebody works here: that keeps it running."""
        if self._row is None or trio.current_time() - self._bumped_at < BUMP_SECONDS:
            return
        self._bumped_at = trio.current_time()
        self.touch()  # what runs in the background may have changed something
        with suppress(StoreUnavailable, CallerError):  # the next one will do
            await self.rows.bump(self._row.id)

    async def _find(self) -> Workspace:
        row = await self.existing()
        if row.state is not WorkspaceState.RUNNING:
            raise Refused(words_of(row))
        with _reading_rows():
            self._place = await self._directory.workspace(row.id)
        return self._place


class _reading_rows:
    """What goes wrong with the rows, in words for the model."""

    def __enter__(self) -> None: ...

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, WorkspaceUnreachable):
            return
        if isinstance(error, StoreUnavailable):
            raise Refused(NO_LOOKUP) from None
        if isinstance(error, (CallerError, Unreadable)):
            raise Refused(str(error)) from None


async def _asked(place: Workspace, question: Callable[[Workspace], Awaitable[Answer]]) -> Answer:
    try:
        return await question(place)
    except StaleEpoch:
        raise Refused("Another worker goes on with this chat; nothing was done here.") from None
    except UnknownCall:
        raise Refused(NO_PROCESS) from None
    except WorkspaceRefused as error:
        raise Refused(str(error)) from None


def words_of(row: WorkspaceRow) -> str:
    """Why a workspace that does not run cannot be worked in, and what to do."""
    return STATES[row.state].format(detail=f" ({row.detail})" if row.detail else "")
