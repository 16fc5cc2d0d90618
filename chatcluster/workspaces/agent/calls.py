"""Calls: begun once, followed, ended, buried. See ``workspace_wire.py`` for their states.

A request decides and writes to the ledger in one step without a wait, so two requests with the same ID cannot both
begin it. What is under way has a ``Command`` or an ``Action`` here; all else is in the ledger. How long a call takes is
measured, and no difference of two times of a clock that may be set.

What happens on failure: a command that cannot be started has ``failed``, and says so in its error. A call that is
being carried out when the agent ends is found as running by the next one, which knows that nothing runs, and ends it.
"""

from __future__ import annotations

import signal as signals
import time
import traceback
from typing import Any

import msgspec
import trio

from chatcluster.workspace_mcp import McpCall
from chatcluster.workspace_wire import (
    ID_CHARACTERS_MAX,
    OUTPUT_CHUNK_BYTES,
    WAIT_SECONDS_MAX,
    CallAnswer,
    CallRequest,
    CallState,
    CallUnderWay,
    Code,
    Desktop,
    EditFiles,
    Execute,
    Kind,
    ProcessAnswer,
    Signal,
    WriteFile,
)
from chatcluster.workspaces.agent import files
from chatcluster.workspaces.agent.actions import Action
from chatcluster.workspaces.agent.commands import Command, begin_command
from chatcluster.workspaces.agent.desktop import Screens, result_of
from chatcluster.workspaces.agent.ledger import Entry, Ledger, size_of
from chatcluster.workspaces.agent.mcp.servers import Servers
from chatcluster.workspaces.agent.names import Places
from chatcluster.workspaces.agent.output import read_piece
from chatcluster.workspaces.agent.processes import Processes
from chatcluster.workspaces.agent.refused import AGENT_FAILED, Refused

PROCESSES_LISTED_MAX = 100
COMMAND_CHARACTERS_TOLD = 1000
"""Of each process that is listed: all of a hundred long ones would be no answer that anybody takes."""
RUNNING_MAX = 64
SIGNALS = {"terminate": signals.SIGTERM, "kill": signals.SIGKILL}
CANCELLED = "it was cancelled"
FAREWELL_SECONDS = 2.0
PUT_SECONDS = 2.0
"""Who puts an action on the screen waits so long for its end."""

INPUTS: dict[Kind, type[msgspec.Struct]] = {
    Kind.EXECUTE: Execute,
    Kind.WRITE_FILE: WriteFile,
    Kind.EDIT_FILES: EditFiles,
    Kind.SIGNAL: Signal,
    Kind.DESKTOP: Desktop,
    Kind.MCP: McpCall,
}


class Calls:
    def __init__(
        self,
        ledger: Ledger,
        processes: Processes,
        places: Places,
        screens: Screens | None,
        servers: Servers,
        nursery: trio.Nursery,
        *,
        output_bytes_max: int,
    ) -> None:
        self._ledger = ledger
        self._processes = processes
        self._places = places
        self._nursery = nursery
        self._output_bytes_max = output_bytes_max
        self._screens = screens
        self._servers = servers
        self._under_way: dict[str, Command | Action] = {}
        """What is under way, by call ID."""

    def recover(self, last_sign_of_life: float) -> None:
        """Report the calls that ran under an earlier agent as killed."""
        for entry in self._ledger.running():
            size = size_of(self._ledger.output_path(entry.number))
            ended_at = max(last_sign_of_life, entry.started_at or 0)
            self._ledger.end(
                _ended(
                    entry,
                    CallState.KILLED,
                    error="the workspace ended while it ran",
                    ended_at=ended_at,
                    output_bytes=size,
                    kept_bytes=size,
                )
            )

    async def put(self, call_id: str, request: CallRequest) -> CallAnswer:
        """Begin it, or attach to it. Raises ``Refused``."""
        _check_ids(call_id, request.chat_id)
        wanted = _input(request)
        self._fence(request.chat_id, request.epoch)
        if (entry := self._ledger.call(call_id)) is None:
            self._begin(call_id, request, wanted)
        elif entry.state is not CallState.BURIED:
            if (entry.chat_id, entry.digest) != (request.chat_id, request.digest):
                raise Refused(Code.CALL_CONFLICT, "there is another call with this ID")
            self._raise_epoch(request.chat_id, request.epoch)
        if isinstance(action := self._under_way.get(call_id), Action):
            with trio.move_on_after(PUT_SECONDS):
                await action.ended.wait()
        return self._answer(self._known(call_id), 0)

    async def call(self, call_id: str, offset: int, wait_seconds: float) -> CallAnswer:
        """The call's state and its output from ``offset`` on. Raises ``Refused``."""
        entry = self._known(call_id)
        if (under_way := self._under_way.get(call_id)) is not None:
            with trio.move_on_after(min(wait_seconds, WAIT_SECONDS_MAX)):
                await (
                    under_way.output.wait_beyond(offset) if isinstance(under_way, Command) else under_way.ended.wait()
                )
            entry = self._known(call_id)
        return self._answer(entry, offset)

    async def cancel(self, call_id: str, epoch: int, chat_id: str, *, foreground_only: bool = False) -> CallAnswer:
        """End it with all that it began, or see to it that it never begins. Raises ``Refused``.

        ``foreground_only``: unless it goes on in the background, or has ended since the caller last looked: what a
        command left running belongs to the workspace once its result is there."""
        _check_ids(call_id, chat_id or "none")
        if (entry := self._ledger.call(call_id)) is None:
            self._fence(chat_id, epoch)
            self._ledger.bury(call_id, chat_id, epoch)
            return self._answer(self._known(call_id), 0)
        self._fence(entry.chat_id, epoch)
        if entry.state is not CallState.BURIED:
            self._raise_epoch(entry.chat_id, epoch)
        under_way = self._under_way.get(call_id)
        if foreground_only and (under_way is None or self._is_in_background(entry)):
            return self._answer(entry, 0)
        if under_way is not None:
            await under_way.end(CANCELLED)
        else:
            await self._processes.end(entry.number)  # what it left behind
        return self._answer(self._known(call_id), 0)

    def signal(self, call_id: str, signal: str) -> ProcessAnswer:
        """Send a signal to all processes of a call. Raises ``Refused``."""
        entry = self._known(call_id)
        if (number := SIGNALS.get(signal)) is None:
            raise Refused(Code.INVALID_REQUEST, f"signal is one of: {', '.join(SIGNALS)}")
        if entry.kind != Kind.EXECUTE or not self._processes.signal_all(entry.number, number):
            raise Refused(Code.NOT_RUNNING, "nothing of this process runs any more")
        return self._process(entry)

    def processes(self) -> tuple[ProcessAnswer, ...]:
        return tuple(self._process(entry) for entry in self._ledger.commands(PROCESSES_LISTED_MAX))

    def screens(self) -> Screens:
        """Raises ``Refused`` if this workspace has none."""
        if self._screens is None:
            raise Refused(Code.NO_DESKTOP, "this workspace has no desktop: its template does not ask for one")
        return self._screens

    def running(self) -> int:
        return len(self._under_way)

    def in_foreground(self) -> tuple[CallUnderWay, ...]:
        """The calls that run and that somebody waits for."""
        entries = [self._known(call_id) for call_id in self._under_way]
        return tuple(
            CallUnderWay(call_id=entry.call_id, chat_id=entry.chat_id)
            for entry in entries
            if not self._is_in_background(entry)
        )

    async def end_all(self, reason: str) -> None:
        """End whatever runs."""
        with trio.move_on_after(FAREWELL_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for under_way in self._under_way.values():
                    nursery.start_soon(under_way.end, reason)

    def _begin(self, call_id: str, request: CallRequest, wanted: msgspec.Struct) -> None:
        if isinstance(wanted, Execute | Desktop | McpCall) and self.running() >= RUNNING_MAX:
            raise Refused(Code.TOO_MANY, f"{RUNNING_MAX} commands run already; end one of them first")
        values = {
            "call_id": call_id,
            "chat_id": request.chat_id,
            "digest": request.digest,
            "kind": request.kind.value,
            "input": msgspec.json.encode(wanted) if isinstance(wanted, Execute) else b"{}",
            "started_at": time.time(),
        }
        entry = self._ledger.begin(values, request.epoch)
        try:
            self._carry_out(entry, wanted, request.deadline_seconds)
        except Refused as refused:
            self._ledger.end(_failed(entry, refused))
        except Exception:  # noqa: BLE001 - it is the end of this call, and of nothing else
            self._ledger.end(_crashed(entry))

    def _carry_out(self, entry: Entry, wanted: msgspec.Struct, deadline_seconds: float | None) -> None:
        match wanted:
            case Execute():
                self._execute(entry, wanted, deadline_seconds)
            case WriteFile():
                self._done(entry, files.write(self._places, wanted))
            case EditFiles():
                self._done(entry, files.edit(self._places, wanted))
            case Signal():
                self._done(entry, msgspec.to_builtins(self.signal(wanted.process_id, wanted.signal)))
            case Desktop() | McpCall():
                action = self._under_way[entry.call_id] = Action()
                self._nursery.start_soon(self._act, entry, wanted, action, deadline_seconds)

    def _execute(self, entry: Entry, wanted: Execute, deadline_seconds: float | None) -> None:
        path = self._ledger.output_path(entry.number)
        directory = self._places.directory(wanted.workdir)
        command = begin_command(
            self._processes, entry.number, wanted, directory, path, kept_bytes_max=self._output_bytes_max
        )
        self._under_way[entry.call_id] = command
        self._nursery.start_soon(command.output.follow)
        self._nursery.start_soon(self._see_to_its_end, entry, command, deadline_seconds)

    async def _see_to_its_end(self, entry: Entry, command: Command, deadline_seconds: float | None) -> None:
        await command.wait(deadline_seconds)
        command.output.settle()
        state = CallState.EXITED if command.reason is None else CallState.KILLED
        self._ledger.end(
            _ended(
                entry,
                state,
                ended_at=self._ended_at(entry),
                error=command.reason or command.trouble(),
                exit_code=command.child.exit_code,
                signal=command.child.signal,
                output_bytes=command.output.total_bytes,
                kept_bytes=command.output.kept_bytes,
            )
        )
        del self._under_way[entry.call_id]
        command.ended.set()

    async def _act(
        self, entry: Entry, wanted: Desktop | McpCall, action: Action, deadline_seconds: float | None
    ) -> None:
        ended: Entry | None = None
        if deadline_seconds is not None:
            action.scope.deadline = trio.current_time() + deadline_seconds
        with action.scope:
            try:
                result = await self._result(entry, wanted)
                ended = _ended(entry, CallState.EXITED, result=msgspec.json.encode(result))
            except Refused as refused:
                ended = _failed(entry, refused)
            except Exception:  # noqa: BLE001 - as above
                ended = _crashed(entry)
        too_slow = f"it took longer than {deadline_seconds or 0:g} seconds"
        ended = ended or _ended(entry, CallState.KILLED, error=action.reason or too_slow)
        self._ledger.end(msgspec.structs.replace(ended, ended_at=self._ended_at(entry)))
        del self._under_way[entry.call_id]
        action.ended.set()

    async def _result(self, entry: Entry, wanted: Desktop | McpCall) -> Any:
        """Raises ``Refused``."""
        if isinstance(wanted, McpCall):
            return await self._servers.call(wanted, entry.call_id)
        return result_of(await self.screens().act(wanted))

    def _done(self, entry: Entry, result: Any) -> None:
        self._ledger.end(_ended(entry, CallState.EXITED, result=msgspec.json.encode(result)))

    def _fence(self, chat_id: str, epoch: int) -> None:
        seen = self._ledger.epoch(chat_id)
        if seen is not None and epoch < seen:
            raise Refused(Code.STALE_EPOCH, f"the chat is at epoch {seen}: this tenure of it is over")

    def _raise_epoch(self, chat_id: str, epoch: int) -> None:
        if epoch != self._ledger.epoch(chat_id):
            self._ledger.raise_epoch(chat_id, epoch)

    def _known(self, call_id: str) -> Entry:
        if (entry := self._ledger.call(call_id)) is None:
            raise Refused(Code.UNKNOWN_CALL, "no call with this ID was ever put")
        return entry

    def _answer(self, entry: Entry, offset: int) -> CallAnswer:
        path = self._ledger.output_path(entry.number)
        total, kept = self._written(entry)
        return CallAnswer(
            call_id=entry.call_id,
            kind=entry.kind,
            state=entry.state,
            exit_code=entry.exit_code,
            signal=entry.signal,
            error=entry.error,
            result=None if entry.result is None else msgspec.json.decode(entry.result),
            started_at=entry.started_at,
            ended_at=entry.ended_at,
            wall_ms=round(1000 * self._seconds(entry)),
            background=self._is_in_background(entry),
            output_bytes=total,
            kept_bytes=kept,
            offset=offset,
            output=read_piece(path, offset, min(OUTPUT_CHUNK_BYTES, kept - offset)) if offset < kept else b"",
        )

    def _process(self, entry: Entry) -> ProcessAnswer:
        asked = entry.command
        return ProcessAnswer(
            call_id=entry.call_id,
            chat_id=entry.chat_id,
            command=asked.command[:COMMAND_CHARACTERS_TOLD],
            workdir=asked.workdir,
            background=self._is_in_background(entry),
            state=entry.state,
            exit_code=entry.exit_code,
            signal=entry.signal,
            started_at=entry.started_at or 0,
            ended_at=entry.ended_at,
            wall_ms=round(1000 * self._seconds(entry)),
            output_bytes=self._written(entry)[0],
        )

    def _is_in_background(self, entry: Entry) -> bool:
        if entry.kind != Kind.EXECUTE or not entry.input:
            return False
        asked, seconds = entry.command, entry.command.foreground_seconds
        return asked.background or (seconds is not None and self._seconds(entry) >= seconds)

    def _seconds(self, entry: Entry) -> float:
        """How long it has run, or ran."""
        if (under_way := self._under_way.get(entry.call_id)) is not None:
            return trio.current_time() - under_way.began
        return max(0.0, (entry.ended_at or 0.0) - (entry.started_at or entry.ended_at or 0.0))

    def _ended_at(self, entry: Entry) -> float:
        """The moment at which a call ended that ends now."""
        return (entry.started_at or time.time()) + self._seconds(entry)

    def _written(self, entry: Entry) -> tuple[int, int]:
        """How much, and how much of it is kept. A command that has ended has no more than it had then."""
        command = self._under_way.get(entry.call_id)
        if not isinstance(command, Command):
            return entry.output_bytes, entry.kept_bytes
        return command.output.total_bytes, command.output.kept_bytes


def _input(request: CallRequest) -> msgspec.Struct:
    try:
        return msgspec.convert(request.input, INPUTS[request.kind])
    except msgspec.ValidationError as error:
        raise Refused(Code.INVALID_REQUEST, f"the input of {request.kind.value}: {error}") from None


def _check_ids(call_id: str, chat_id: str) -> None:
    for name, value in (("call ID", call_id), ("chat_id", chat_id)):
        if not 0 < len(value) <= ID_CHARACTERS_MAX:
            raise Refused(Code.INVALID_REQUEST, f"a {name} has 1 to {ID_CHARACTERS_MAX} characters")


def _ended(entry: Entry, state: CallState, **values: Any) -> Entry:
    return msgspec.structs.replace(entry, **{"state": state, "ended_at": time.time(), **values})


def _failed(entry: Entry, refused: Refused) -> Entry:
    return _ended(entry, CallState.FAILED, error=f"{refused.code.value}: {refused.message}")


def _crashed(entry: Entry) -> Entry:
    """The end of a call by an error that nobody foresaw, which is told those who look after the host."""
    traceback.print_exc()
    return _failed(entry, Refused(Code.INTERNAL, AGENT_FAILED))
