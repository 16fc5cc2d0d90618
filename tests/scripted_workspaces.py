"""Sandboxes and agents for tests: they do what a test says, and remember what they were told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import trio
from msgspec.structs import replace

from chatcluster.ports.workspace import SandboxState, SandboxStatus, Workspace, WorkspaceSpec
from chatcluster.workspace_errors import SandboxFailed, UnknownCall, WorkspaceUnreachable
from chatcluster.workspace_mcp import McpAnswer
from chatcluster.workspace_wire import (
    AgentStatus,
    CallAnswer,
    CallRequest,
    CallState,
    CallUnderWay,
    DiffAnswer,
    FileAnswer,
    InstructionsAnswer,
    ProcessAnswer,
    Screen,
)


class ScriptedAgent:
    """``Workspace``. A call runs until a test, or a cancel, ends it; a command ``exit N`` ends at once."""

    def __init__(self) -> None:
        self.requests: dict[str, CallRequest] = {}
        self.answers: dict[str, CallAnswer] = {}
        self.cancelled: list[tuple[str, int]] = []
        self.looks = 0
        self.silent = self.loses_output = False

    async def put(self, call_id: str, request: CallRequest) -> CallAnswer:
        await self._hear()
        if call_id not in self.answers:
            self.requests[call_id] = request
            command = str(request.input.get("command", ""))
            self.answers[call_id] = CallAnswer(call_id=call_id, kind=request.kind, state=CallState.RUNNING)
            if command.startswith("exit "):
                self.end(call_id, int(command.removeprefix("exit ")), b"one\ntwo")
        return self._given(self.answers[call_id])

    async def call(self, call_id: str, *, offset: int = 0, wait_seconds: float = 0) -> CallAnswer:
        await self._hear()
        if not self._known(call_id).state.ended:
            await trio.sleep(wait_seconds)
        answer = self._known(call_id)
        return self._given(replace(answer, offset=offset, output=answer.output[offset:]))

    async def cancel(self, call_id: str, epoch: int, *, chat_id: str = "", foreground_only: bool = False) -> CallAnswer:
        await self._hear()
        self.cancelled.append((call_id, epoch))
        self.answers[call_id] = replace(self._known(call_id), state=CallState.KILLED, error="it was cancelled")
        return self.answers[call_id]

    async def under_way(self) -> Sequence[CallUnderWay]:
        await self._hear()
        self.looks += 1
        return tuple(
            CallUnderWay(call_id=call_id, chat_id=request.chat_id)
            for call_id, request in self.requests.items()
            if not self.answers[call_id].state.ended and not request.input.get("background")
        )

    async def mcp(self, *, wait_seconds: float = 0) -> McpAnswer:
        raise NotImplementedError

    async def processes(self) -> Sequence[ProcessAnswer]:
        raise NotImplementedError

    async def signal(self, call_id: str, signal: str) -> ProcessAnswer:
        await self._hear()
        return self._process(call_id, self.requests[call_id])

    async def read_file(self, path: str, *, offset: int, limit: int) -> FileAnswer:
        raise NotImplementedError

    async def instructions(self, directory: str = "") -> InstructionsAnswer:
        raise NotImplementedError

    async def diff(self, *, base: str = "", directory: str = "") -> DiffAnswer:
        raise NotImplementedError

    async def screen(self) -> Screen:
        raise NotImplementedError

    async def status(self) -> AgentStatus:
        await self._hear()
        return AgentStatus(
            version="0",
            started_at=0.0,
            os="test",
            home="/home/user",
            directory="/workspace",
            running=0,
            has_desktop=False,
            disk_bytes=0,
            disk_free_bytes=0,
            memory_bytes=0,
        )

    def end(self, call_id: str, exit_code: int, output: bytes = b"") -> None:
        ended = {"state": CallState.EXITED, "exit_code": exit_code, "output": output}
        self.answers[call_id] = replace(
            self.answers[call_id], **ended, output_bytes=len(output), kept_bytes=len(output)
        )

    def _given(self, answer: CallAnswer) -> CallAnswer:
        return replace(answer, output=b"") if self.loses_output else answer

    async def _hear(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.silent:
            await trio.sleep(5)
            raise WorkspaceUnreachable("the workspace does not answer")

    def _known(self, call_id: str) -> CallAnswer:
        if call_id not in self.answers:
            raise UnknownCall("unknown_call", "there is no such call")
        return self.answers[call_id]

    def _process(self, call_id: str, request: CallRequest) -> ProcessAnswer:
        answer = self.answers[call_id]
        return ProcessAnswer(
            call_id=call_id,
            chat_id=request.chat_id,
            command=str(request.input.get("command", "")),
            workdir="/workspace",
            background=bool(request.input.get("background")),
            state=answer.state,
            started_at=0.0,
            wall_ms=0,
            output_bytes=answer.output_bytes,
        )


class ScriptedProvider:
    """``WorkspaceProvider``. ``slow``: so many seconds until one has started; ``broken``: why a deed fails."""

    def __init__(self) -> None:
        self.agents: defaultdict[str, ScriptedAgent] = defaultdict(ScriptedAgent)
        self.states: dict[str, SandboxState] = {}
        self.specs: dict[str, WorkspaceSpec] = {}
        self.deeds: list[tuple[str, str]] = []
        self.slow: dict[str, float] = {}
        self.takes_seconds = 0.0
        self.starting = self.starting_max = 0
        self.broken: dict[str, str] = {}
        self.messages: dict[str, str] = {}

    async def remove_orphans(self) -> None:
        await self._do("remove_orphans", "")

    async def create(self, spec: WorkspaceSpec) -> None:
        await self._do("create", spec.workspace_id)
        self.specs[spec.workspace_id] = spec
        self.states[spec.workspace_id] = SandboxState.STOPPED

    async def start(self, spec: WorkspaceSpec) -> None:
        self.starting += 1
        self.starting_max = max(self.starting_max, self.starting)
        try:
            await trio.sleep(self.slow.get(spec.workspace_id, self.takes_seconds))
            await self._do("start", spec.workspace_id)
        finally:
            self.starting -= 1
        self.states[spec.workspace_id] = SandboxState.RUNNING

    async def stop(self, workspace_id: str) -> None:
        await self._do("stop", workspace_id)
        self.states[workspace_id] = SandboxState.STOPPED

    async def delete(self, workspace_id: str) -> None:
        await self._do("delete", workspace_id)
        self.states[workspace_id] = SandboxState.ABSENT

    async def status(self, workspace_id: str) -> SandboxStatus:
        state = self.states.get(workspace_id, SandboxState.ABSENT)
        return SandboxStatus(state=state, message=self.messages.get(workspace_id, ""))

    def connect(self, workspace_id: str) -> Workspace:
        return self.agents[workspace_id]

    def die(self, workspace_id: str, message: str = "it was killed") -> None:
        """Its sandbox ends by itself."""
        self.states[workspace_id] = SandboxState.FAILED
        self.messages[workspace_id] = message

    @property
    def running(self) -> set[str]:
        return {workspace_id for workspace_id, state in self.states.items() if state is SandboxState.RUNNING}

    async def _do(self, deed: str, workspace_id: str) -> None:
        await trio.lowlevel.checkpoint()
        self.deeds.append((deed, workspace_id))
        if deed in self.broken:
            raise SandboxFailed(self.broken[deed])
