"""What a model is told of the place where its chat works: whether there is one, and the instructions that lie in it.

It is rendered anew at the start of each turn, from the workspace that the chat has then. The instructions are the
``AGENTS.md`` of the workspace's home and of its working directory, with its system and its directories, which are said
even where there is no such file. They are read from the agent, ``READ_SECONDS_MAX`` at most, and remembered for
``KEPT_SECONDS``; a turn whose workspace does not run or does not answer is told what was read last. A failure is not
remembered: the next turn asks again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple
from uuid import UUID

import trio

from chatcluster.ports.workspaces import WorkspaceState
from chatcluster.prompts import element
from chatcluster.tools.workspace_link import Link, Refused
from chatcluster.workspace_wire import INSTRUCTION_BYTES_MAX, InstructionFile, InstructionsAnswer

READ_SECONDS_MAX = 5.0
KEPT_SECONDS = 300.0
TOLD_CHARACTERS_MAX = 4 * INSTRUCTION_BYTES_MAX
"""The agent keeps within that, if it is ours."""
KEPT_BYTES_MAX = 16 << 20
"""The most that is kept of all workspaces on this replica; what was read longest ago is forgotten."""

ATTACHED = (
    "This chat has a workspace: a Linux machine of its own, whose files stay. read_file, write_file and edit_files "
    "work on its files, execute runs commands in it."
)
NOT_ATTACHED = (
    "This chat has no workspace yet. Files and commands need one: if a task does, make it first, with "
    "create_workspace; list_templates says of what."
)
AGENT_ATTACHED = (
    "You work in the workspace of the chat that you work for, and so may others: a Linux machine whose files stay. "
    "read_file, write_file and edit_files work on its files, execute runs commands in it."
)
AGENT_NOT_ATTACHED = "The chat that you work for has no workspace, so there are no files here, and no commands to run."
SCREEN = "It has a screen: computer shows it and works on it, and what execute begins has its windows there."


class _Read(NamedTuple):
    text: str
    until: float
    generation: int


class Surroundings:
    """One for a replica."""

    def __init__(self) -> None:
        self._read: OrderedDict[UUID, _Read] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Surroundings of {len(self._read)} workspaces>"

    async def told(self, link: Link) -> str:
        """What the model is told before the conversation, of the workspace as it was looked up."""
        is_agent, row = link.chat.depth > 0, link.row
        if row is None:
            return AGENT_NOT_ATTACHED if is_agent else NOT_ATTACHED
        text = AGENT_ATTACHED if is_agent else ATTACHED
        known = self._read.get(row.id)
        fresh = known is not None and known.generation == row.generation and trio.current_time() < known.until
        if fresh or row.state is not WorkspaceState.RUNNING:
            instructions = "" if known is None else known.text
        else:
            instructions = await self.instructions(link)
        return f"{text}\n\n{instructions}" if instructions else text

    async def instructions(self, link: Link) -> str:
        """The instructions as they are now, or as they were when they could be read last."""
        row = link.row
        assert row is not None, "a workspace is looked up before it is asked"
        with trio.move_on_after(READ_SECONDS_MAX) as reading:
            try:
                answer = await link.look(lambda place: place.instructions())
                text = rendered(answer, has_screen=row.made_of.settings.desktop)[:TOLD_CHARACTERS_MAX]
            except Refused:
                pass
            else:
                self._keep(row.id, _Read(text, trio.current_time() + KEPT_SECONDS, row.generation))
        if reading.cancelled_caught:
            link.is_silent = True
        known = self._read.get(row.id)
        return "" if known is None else known.text

    def _keep(self, workspace_id: UUID, read: _Read) -> None:
        old = self._read.pop(workspace_id, None)
        self._bytes += len(read.text) - (0 if old is None else len(old.text))
        self._read[workspace_id] = read
        while self._bytes > KEPT_BYTES_MAX and len(self._read) > 1:
            _, dropped = self._read.popitem(last=False)
            self._bytes -= len(dropped.text)


def rendered(answer: InstructionsAnswer, *, has_screen: bool = False) -> str:
    place = f"It runs {answer.os}. Home is {answer.home}; commands and relative paths start in {answer.directory}."
    return "\n\n".join((f"{place} {SCREEN}" if has_screen else place, *map(_file, answer.files)))


def _file(file: InstructionFile) -> str:
    text = file.content
    if file.is_truncated:
        text += f"\n[cut here: the file has {file.size_bytes} bytes; read_file reads the rest]"
    return f"From {file.path}:\n{element('workspace-instructions', text)}"
