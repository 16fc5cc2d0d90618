"""From a request to what it asks for: the routes of ``workspace_wire.py``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import trio

from chatcluster import __version__
from chatcluster.workspace_wire import (
    FILE_BYTES_MAX,
    AgentStatus,
    CallRequest,
    Cancel,
    Code,
    ProcessList,
    SignalRequest,
    UnderWay,
)
from chatcluster.workspaces.agent import files
from chatcluster.workspaces.agent.calls import Calls
from chatcluster.workspaces.agent.diff import diff
from chatcluster.workspaces.agent.mcp.servers import Servers
from chatcluster.workspaces.agent.names import Places, shown
from chatcluster.workspaces.agent.processes import Processes
from chatcluster.workspaces.agent.refused import Refused
from chatcluster.workspaces.agent.server import Request
from chatcluster.workspaces.agent.surroundings import instructions, system_name

STOPPED = "the workspace was stopped"

Body = TypeVar("Body", bound=msgspec.Struct)


@dataclass(frozen=True)
class Routes:
    calls: Calls
    processes: Processes
    places: Places
    servers: Servers
    has_desktop: bool
    started_at: float = field(default_factory=time.time)
    stopped: trio.Event = field(default_factory=trio.Event)

    async def answer(self, request: Request) -> msgspec.Struct:
        """Raises ``Refused``."""
        query = request.query
        match (request.method, *request.path):
            case ("PUT", "calls", call_id):
                return await self.calls.put(call_id, _body(request, CallRequest))
            case ("GET", "calls", call_id):
                return await self.calls.call(call_id, _whole(query, "offset"), _seconds(query, "wait_seconds"))
            case ("POST", "calls", call_id, "cancel"):
                wanted = _body(request, Cancel)
                foreground_only = wanted.foreground_only
                return await self.calls.cancel(call_id, wanted.epoch, wanted.chat_id, foreground_only=foreground_only)
            case ("GET", "calls"):
                return UnderWay(calls=self.calls.in_foreground())
            case ("GET", "processes"):
                return ProcessList(processes=self.calls.processes())
            case ("POST", "processes", call_id, "signal"):
                return self.calls.signal(call_id, _body(request, SignalRequest).signal)
            case ("GET", "files"):
                offset, limit = _whole(query, "offset"), _whole(query, "limit", FILE_BYTES_MAX)
                return files.read(self.places, query.get("path", ""), offset, limit)
            case ("GET", "instructions"):
                return instructions(self.places, query.get("directory", ""))
            case ("GET", "diff"):
                return await diff(self.processes, self.places, query.get("base", ""), query.get("directory", ""))
            case ("GET", "screen"):
                return await self.calls.screens().look()
            case ("GET", "mcp"):
                return await self.servers.look(_seconds(query, "wait_seconds"))
            case ("GET", "status"):
                return self._status()
            case ("POST", "stop"):
                self.servers.end()
                await self.calls.end_all(STOPPED)
                self.stopped.set()
                return self._status()
        raise Refused(Code.NOT_FOUND, f"there is no {request.method} /{'/'.join(request.path)}")

    def _status(self) -> AgentStatus:
        disk = os.statvfs(self.places.work)
        return AgentStatus(
            version=__version__,
            started_at=self.started_at,
            os=system_name(),
            home=shown(self.places.home),
            directory=shown(self.places.work),
            running=self.calls.running(),
            has_desktop=self.has_desktop,
            disk_bytes=disk.f_blocks * disk.f_frsize,
            disk_free_bytes=disk.f_bavail * disk.f_frsize,
            memory_bytes=_resident_bytes(),
        )


def _body(request: Request, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Code.INVALID_REQUEST, f"the body: {error}") from None


def _whole(query: dict[str, str], name: str, default: int = 0) -> int:
    value = query.get(name, str(default))
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise Refused(Code.INVALID_REQUEST, f"{name} is a number from 0 to 10^18")
    return int(value)


def _seconds(query: dict[str, str], name: str) -> float:
    try:
        value = float(query.get(name, "0"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise Refused(Code.INVALID_REQUEST, f"{name} is a number that is not negative")
    return value


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
