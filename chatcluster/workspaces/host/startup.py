"""The start-up script of a workspace: a call of its agent like any other, in the background, with a time limit.

Each start of the workspace has one such call, so a host that asks twice runs it once. What the script prints becomes
lines of the log as it is printed. A script that fails, or takes too long, fails nothing else: the workspace runs, and
its row says so.
"""

from __future__ import annotations

import hashlib

import trio

from chatcluster.ports.workspace import Workspace
from chatcluster.ports.workspaces import Startup, WorkspaceRow
from chatcluster.workspace_wire import CallAnswer, CallRequest, CallState, Kind
from chatcluster.workspaces.host.reports import Reports

STARTUP_SECONDS_MAX = 600.0
WAIT_SECONDS = 10.0
MISSING_SECONDS = 1.0
LINE_BYTES_MAX = 4096


async def run_startup(row: WorkspaceRow, agent: Workspace, reports: Reports) -> Startup:
    """How it ended. Raises ``WorkspaceUnreachable`` and ``WorkspaceRefused``."""
    call_id = f"startup-{row.generation}"
    script = row.made_of.settings.startup
    answer = await agent.put(
        call_id,
        CallRequest(
            chat_id=f"startup of {row.id}",
            epoch=row.generation,
            digest=hashlib.sha256(script.encode()).hexdigest(),
            kind=Kind.EXECUTE,
            input={"command": script, "background": True},
            deadline_seconds=STARTUP_SECONDS_MAX,
        ),
    )
    lines = _Lines()
    while True:
        offset = answer.offset + len(answer.output)
        await reports.log(row, "startup", *lines.of(answer.output))
        is_missing = not answer.output and offset < answer.kept_bytes  # it is said to be there, and is not given
        if answer.state.ended and (is_missing or offset >= answer.kept_bytes):
            await reports.log(row, "startup", *lines.rest(), _ending(answer))
            return Startup.SUCCEEDED if _is_success(answer) else Startup.FAILED
        if is_missing:
            await trio.sleep(MISSING_SECONDS)
        answer = await agent.call(call_id, offset=offset, wait_seconds=WAIT_SECONDS)


class _Lines:
    """Bytes as they come, made lines; one without an end is cut."""

    def __init__(self) -> None:
        self._begun = b""

    def of(self, output: bytes) -> list[str]:
        *whole, self._begun = (self._begun + output).split(b"\n")
        if len(self._begun) > LINE_BYTES_MAX:
            whole, self._begun = [*whole, self._begun], b""
        return [line.decode(errors="replace") for line in whole]

    def rest(self) -> list[str]:
        return [self._begun.decode(errors="replace")] if self._begun else []


def _is_success(answer: CallAnswer) -> bool:
    return answer.state is CallState.EXITED and answer.exit_code == 0


def _ending(answer: CallAnswer) -> str:
    if _is_success(answer):
        return "the start-up script has finished"
    said = answer.error or (f"exit code {answer.exit_code}" if answer.signal is None else f"signal {answer.signal}")
    return f"the start-up script failed: {said}"
