"""A workspace without a machine: an agent with a ledger whose commands are scripted, and the rows around it.

``FakeAgent`` keeps what a real one does: a call is carried out once, another digest is a conflict, an older epoch is
stale, and a foreground call that takes too long goes on in the background.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
import trio
from msgspec.structs import replace

from chatcluster.errors import StoreUnavailable
from chatcluster.ports.workspace import Workspace
from chatcluster.ports.workspaces import (
    Asked,
    LogLine,
    MadeOf,
    NewWorkspace,
    Template,
    WorkspaceRow,
    WorkspaceState,
)
from chatcluster.workspace_errors import (
    CallConflict,
    StaleEpoch,
    UnknownCall,
    WorkspaceRefused,
    WorkspaceUnreachable,
)
from chatcluster.workspace_mcp import McpAnswer, McpContent, McpResult, McpState
from chatcluster.workspace_templates import TemplateSettings
from chatcluster.workspace_wire import (
    AgentStatus,
    CallAnswer,
    CallRequest,
    CallState,
    CallUnderWay,
    DiffAnswer,
    FileAnswer,
    InstructionFile,
    InstructionsAnswer,
    Kind,
    ProcessAnswer,
    Screen,
)

CHUNK_BYTES = 256 << 10
PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\rIDATx"
    b"\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82"
)
PICTURE_SAYS = {"mime_type": "image/png", "width": 1280, "height": 800}


class Script(NamedTuple):
    """What a command prints, after how many seconds, and how it ends; None: it does not."""

    prints: Sequence[tuple[float, bytes]] = ()
    ends_after: float | None = 0.0
    exit_code: int | None = 0
    signal: int | None = None
    kept_bytes_max: int = 10 << 20


class Put:
    """A call in the ledger."""

    def __init__(self, call_id: str, request: CallRequest, script: Script) -> None:
        self.call_id, self.request, self.script = call_id, request, script
        self.began_at = trio.current_time()
        self.killed_at: float | None = None
        self.error: str | None = None
        self.result: Any = None

    @property
    def seconds(self) -> float:
        return trio.current_time() - self.began_at

    @property
    def output(self) -> bytes:
        upto = self.seconds if self.killed_at is None else self.killed_at - self.began_at
        return b"".join(data for at, data in self.script.prints if at <= upto)

    @property
    def state(self) -> CallState:
        if self.killed_at is not None:
            return CallState.KILLED
        if self.error is not None:
            return CallState.FAILED
        ends_after = self.script.ends_after
        return CallState.RUNNING if ends_after is None or self.seconds < ends_after else CallState.EXITED

    @property
    def background(self) -> bool:
        limit = self.request.input.get("foreground_seconds")
        return bool(self.request.input.get("background")) or (limit is not None and self.seconds >= limit)

    def answer(self, offset: int = 0) -> CallAnswer:
        output, state = self.output, self.state
        kept = output[: self.script.kept_bytes_max]
        exited = state is CallState.EXITED
        return CallAnswer(
            call_id=self.call_id,
            kind=str(self.request.kind),
            state=state,
            exit_code=self.script.exit_code if exited else None,
            signal=self.script.signal if exited else None,
            error="killed by a cancel" if state is CallState.KILLED else self.error,
            result=self.result,
            wall_ms=int(self.seconds * 1000),
            background=self.background,
            output_bytes=len(output),
            kept_bytes=len(kept),
            offset=offset,
            output=kept[offset : offset + CHUNK_BYTES],
        )


class FakeAgent(Workspace):
    """``silent``: it takes connections, and answers nothing. ``dead``: it takes none."""

    def __init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.files: dict[str, bytes] = {}
        self.agents_md: list[InstructionFile] = []
        self.calls: dict[str, Put] = {}
        self.cancelled: list[str] = []
        self.silent = self.dead = self.loses_output = False
        self.asked = 0
        self.epochs: dict[str, int] = {}
        self.git_says = DiffAnswer(is_repository=True, base="c1", digest="0")
        self.git_takes = 0.0
        self.bases: list[str] = []
        """What its git was asked to compare with."""
        self.screens = [PICTURE]
        """What is on its screen, each time that somebody looks; the last one stays."""
        self.looks = 0
        self.mcp_says = [McpAnswer()]
        """What there is in its .mcp.json, each time that somebody looks; the last one stays."""
        self.mcp_gives = McpResult(content=(McpContent(text="done"),))
        self.looks_for_servers = 0
        self.forgets: set[str] = set()
        """Commits that are gone."""

    async def _reached(self) -> None:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.dead:
            raise WorkspaceUnreachable("connection refused")
        if self.silent:
            await trio.sleep(5.0)
            raise WorkspaceUnreachable("the workspace does not answer")

    def _fence(self, chat_id: str, epoch: int) -> None:
        if epoch < self.epochs.get(chat_id, 0):
            raise StaleEpoch("a later tenure was here")
        self.epochs[chat_id] = epoch

    async def put(self, call_id: str, request: CallRequest) -> CallAnswer:
        await self._reached()
        self._fence(request.chat_id, request.epoch)
        put = self.calls.get(call_id)
        if put is None:
            asked_for = request.input.get("command") or request.input.get("action") or request.input.get("tool")
            script = self.scripts.get(str(asked_for), Script())
            put = self.calls[call_id] = Put(call_id, request, script)
            self._carry_out(put)
        elif put.request.digest != request.digest:
            raise CallConflict("call_conflict", "another call has this ID")
        return self._given(put.answer())

    def _given(self, answer: CallAnswer) -> CallAnswer:
        return replace(answer, output=b"") if self.loses_output else answer

    def _carry_out(self, put: Put) -> None:
        asked = put.request.input
        if put.request.kind is Kind.WRITE_FILE:
            created = asked["path"] not in self.files
            self.files[asked["path"]] = asked["content"].encode()
            put.result = {"path": asked["path"], "bytes": len(asked["content"]), "created": created}
        elif put.request.kind is Kind.EDIT_FILES:
            for file in asked["files"]:
                for edit in file["edits"]:
                    before = self.files.get(file["path"], b"")
                    if edit["search"].encode() not in before:
                        put.error = f"no_match: {file['path']} has no {edit['search']!r}"
                        return
                    self.files[file["path"]] = before.replace(edit["search"].encode(), edit["replace"].encode())
            put.result = {"files": [{"path": file["path"]} for file in asked["files"]]}
        elif put.request.kind is Kind.SIGNAL:
            target = self.calls.get(asked["process_id"])
            if target is None or target.state.ended:
                put.error = "not_running: there is no such process"
            else:
                target.killed_at = trio.current_time()
        elif put.request.kind is Kind.MCP:
            put.result = msgspec.to_builtins(self.mcp_gives)
        elif put.request.kind is Kind.DESKTOP:
            if asked.get("x", 0) >= 1280:
                put.error = "invalid_request: x and y are within the screenshot, which is 1280 by 800"
            put.result = {"screenshot_base64": b64encode(PICTURE).decode(), **PICTURE_SAYS}

    async def call(self, call_id: str, *, offset: int = 0, wait_seconds: float = 0) -> CallAnswer:
        await self._reached()
        put = self.calls.get(call_id)
        if put is None:
            raise UnknownCall("unknown_call", "no such call was ever put")
        until, was_background = trio.current_time() + wait_seconds, put.background
        while put.state is CallState.RUNNING and put.background is was_background and len(put.output) <= offset:
            if trio.current_time() >= until:
                break
            await trio.sleep(0.01)
        return self._given(put.answer(offset))

    async def cancel(
        self,
        call_id: str,
        epoch: int,
        *,
        chat_id: str = "",
        foreground_only: bool = False,
    ) -> CallAnswer:
        await self._reached()
        self._fence(chat_id, epoch)
        self.cancelled.append(call_id)
        self.calls[call_id].killed_at = trio.current_time()
        return self.calls[call_id].answer()

    async def under_way(self) -> Sequence[CallUnderWay]:
        raise NotImplementedError

    async def mcp(self, *, wait_seconds: float = 0) -> McpAnswer:
        await self._reached()
        self.looks_for_servers += 1
        says = self.mcp_says[0] if len(self.mcp_says) == 1 else self.mcp_says.pop(0)
        if any(server.state is McpState.STARTING for server in says.servers):
            await trio.sleep(wait_seconds)
        return says

    async def processes(self) -> Sequence[ProcessAnswer]:
        await self._reached()
        return [
            ProcessAnswer(
                call_id=put.call_id,
                chat_id=put.request.chat_id,
                command=put.request.input["command"],
                workdir="/work",
                background=put.background,
                state=put.state,
                exit_code=put.answer().exit_code,
                started_at=0.0,
                wall_ms=0,
                output_bytes=len(put.output),
            )
            for put in self.calls.values()
            if put.request.kind is Kind.EXECUTE
        ]

    async def signal(self, call_id: str, signal: str) -> ProcessAnswer:
        raise NotImplementedError

    async def read_file(self, path: str, *, offset: int, limit: int) -> FileAnswer:
        await self._reached()
        if path not in self.files:
            raise WorkspaceRefused("file_not_found", f"there is no file {path}")
        data = self.files[path]
        piece = data[offset : offset + limit]
        is_binary = b"\0" in data
        return FileAnswer(path=path, content=piece, offset=offset, size_bytes=len(data), is_binary=is_binary)

    async def instructions(self, directory: str = "") -> InstructionsAnswer:
        await self._reached()
        return InstructionsAnswer(os="Debian 12", home="/home/me", directory="/work", files=tuple(self.agents_md))

    async def diff(self, *, base: str = "", directory: str = "") -> DiffAnswer:
        await self._reached()
        self.bases.append(base)
        if base in self.forgets:
            raise WorkspaceRefused("no_commit", "no such commit")
        await trio.sleep(self.git_takes)
        return self.git_says

    async def screen(self) -> Screen:
        await self._reached()
        self.looks += 1
        if not self.screens:
            raise WorkspaceRefused("no_desktop", "this workspace has no desktop")
        picture = self.screens.pop(0) if len(self.screens) > 1 else self.screens[0]
        return Screen(screenshot=picture, mime_type="image/png", width=1280, height=800)

    async def status(self) -> AgentStatus:
        await self._reached()
        return AgentStatus(
            version="1",
            started_at=0.0,
            os="Debian 12",
            home="/home/me",
            directory="/work",
            running=0,
            has_desktop=False,
            disk_bytes=1,
            disk_free_bytes=1,
            memory_bytes=1,
        )


class FakeRows:
    """The rows of workspaces: one template, and at most one workspace of each chat. ``builds_in`` seconds."""

    def __init__(self, *templates: Template) -> None:
        self.known = list(templates)
        self.rows: dict[UUID, WorkspaceRow] = {}
        self.builds_in = 1.0
        self.ends_as = WorkspaceState.RUNNING
        self.away = False
        self.lines: list[str] = []
        self.bumped = 0
        self.looked_for_templates = 0
        self.user = "ann"
        self._ready_at: dict[UUID, float] = {}

    async def _asked(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable("Postgres is away")

    async def templates(self, owner_id: UUID | None = None) -> tuple[Template, ...]:
        await self._asked()
        self.looked_for_templates += 1
        return tuple(one for one in self.known if owner_id is None or one.settings.is_for(self.user))

    async def of_chat(self, chat_id: UUID) -> WorkspaceRow | None:
        await self._asked()
        return next((self._now(row) for row in self.rows.values() if row.chat_id == chat_id), None)

    async def workspace(self, workspace_id: UUID, owner_id: UUID | None = None) -> WorkspaceRow:
        await self._asked()
        return self._now(self.rows[workspace_id])

    async def create(self, new: NewWorkspace, *, per_user_max: int) -> Asked:
        there = await self.of_chat(new.chat_id)
        if there is not None:
            return Asked(there, changed=False)
        row = WorkspaceRow(
            id=uuid4(),
            owner_id=new.owner_id,
            chat_id=new.chat_id,
            name=new.name,
            state=WorkspaceState.BUILDING,
            made_of=MadeOf(
                template_id=UUID(new.template),
                template_name="python",
                settings=TemplateSettings(),
                parameters=dict(new.parameters),
            ),
        )
        return Asked(self._begun(row), changed=True)

    async def start(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        await self._asked()
        row = self._now(self.rows[workspace_id])
        if row.state in (WorkspaceState.RUNNING, WorkspaceState.STARTING, WorkspaceState.BUILDING):
            return Asked(row, changed=False)
        return Asked(
            self._begun(
                msgspec.structs.replace(row, state=WorkspaceState.STARTING, generation=row.generation + 1, detail="")
            ),
            changed=True,
        )

    async def stop(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        await self._asked()
        row = self._now(self.rows[workspace_id])
        row = self.rows[workspace_id] = msgspec.structs.replace(row, state=WorkspaceState.STOPPED)
        return Asked(row, changed=True)

    async def log(self, workspace_id: UUID, *, after: int = 0, limit: int = 500) -> tuple[LogLine, ...]:
        await self._asked()
        from datetime import UTC, datetime

        now = datetime.now(UTC)
        lines = enumerate(self.lines[after : after + limit], after + 1)
        return tuple(LogLine(number=number, at=now, source="build", text=text) for number, text in lines)

    async def bump(self, workspace_id: UUID) -> bool:
        await self._asked()
        self.bumped += 1
        return True

    def _begun(self, row: WorkspaceRow) -> WorkspaceRow:
        self._ready_at[row.id] = trio.current_time() + self.builds_in
        self.rows[row.id] = row
        return row

    def _now(self, row: WorkspaceRow) -> WorkspaceRow:
        under_way = row.state in (WorkspaceState.BUILDING, WorkspaceState.STARTING)
        if under_way and trio.current_time() >= self._ready_at.get(row.id, inf):
            row = self.rows[row.id] = msgspec.structs.replace(row, state=self.ends_as)
        return row


class FakeDirectory:
    """``moved_to``: where the agent is found when it is looked up once more."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.found: Workspace | None = None
        """In its place."""
        self.others: dict[UUID, Workspace] = {}
        """Of some workspaces."""
        self.moved_to: FakeAgent | None = None
        self.looked_up = 0

    async def workspace(self, workspace_id: UUID) -> Workspace:
        await trio.lowlevel.checkpoint()
        self.looked_up += 1
        if self.looked_up > 1 and self.moved_to is not None:
            return self.moved_to
        return self.others.get(workspace_id) or self.found or self.agent


def template(name: str = "python", **settings: Any) -> Template:
    return Template(id=uuid4(), name=name, settings=TemplateSettings(**settings))
