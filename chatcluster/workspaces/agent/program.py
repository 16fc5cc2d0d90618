"""The program: its arguments, and the order in which it begins and ends.

ledger ⊃ reaper ⊃ calls ⊃ server. ``POST /stop`` ends what runs, says so in the ledger, and ends the agent; so does the
loss of its leash, where it has one (``leash.py``). No signal does, as what runs in the sandbox could send it: process 1
gets none from there that it has no handler for.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import resource
import signal
import socket
import sqlite3
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from chatcluster.workspaces.agent.calls import Calls
from chatcluster.workspaces.agent.desktop import Screens
from chatcluster.workspaces.agent.gateway import LentConnections, by_socket, serve_gateway
from chatcluster.workspaces.agent.landlock import wall_of_sandbox
from chatcluster.workspaces.agent.leash import Leash
from chatcluster.workspaces.agent.ledger import Ledger
from chatcluster.workspaces.agent.mcp.servers import Servers
from chatcluster.workspaces.agent.names import Places
from chatcluster.workspaces.agent.processes import Confinement, FileLimit, Processes, become_parent_of_orphans
from chatcluster.workspaces.agent.routes import Routes
from chatcluster.workspaces.agent.seccomp import filter_of_commands
from chatcluster.workspaces.agent.server import Holder, Server, listen, listen_tcp, taken_over

SOCKET_NAME = "agent.sock"
TOKEN_VARIABLE = "CHATCLUSTER_AGENT_TOKEN"
LEASH_LOST = "the workspace ended, as its host was gone"
LEDGER_UNREADABLE = (
    "its ledger, ledger.sqlite in {}, cannot be read ({}). The files of the workspace are whole. Without a ledger, "
    "what was under way might be done again; where that does no harm, move it away on the host, and start the workspace"
)
ALIVE_NAME = "alive"
ALIVE_SECONDS = 1.0
LOCK_NAME = "lock"
LOCK_SECONDS = 3.0
LOCK_LOOK_SECONDS = 0.02
OWN_FILE_BYTES_MAX = 1 << 30
"""The most of a file of the agent's own, as its ledger: that is no file of the workspace's, which may be small."""


@dataclass(frozen=True)
class Arguments:
    state: Path
    home: bytes
    work: bytes
    output_bytes_max: int
    processes_max: int
    open_files_max: int
    file_bytes_max: int
    listen: str
    listen_fd: int
    leashed: bool
    screen: tuple[int, int] | None
    gateway: Path | None
    lent_gateway: str


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parse(argv)
    try:
        _limit(arguments)
        become_parent_of_orphans()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        trio.run(run, arguments)
    except sqlite3.Error as error:
        sys.exit(f"Error: the agent cannot run: {LEDGER_UNREADABLE.format(arguments.state, error)}")
    except (OSError, ValueError) as error:
        sys.exit(f"Error: the agent cannot run: {error}")


def parse(argv: Sequence[str] | None) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m chatcluster.workspaces.agent", description="The agent of a workspace."
    )
    parser.add_argument("--state", type=Path, required=True, help="directory of its socket and its ledger")
    parser.add_argument("--home", type=os.fsencode, required=True, help="home directory of what it runs")
    parser.add_argument("--work", type=os.fsencode, required=True, help="working directory of what it runs")
    parser.add_argument("--output-bytes-max", type=int, default=10 << 20, help="kept of the output of one call")
    parser.add_argument("--processes-max", type=int, default=0, help="processes and threads; 0: as it is")
    parser.add_argument("--open-files-max", type=int, default=0, help="of one process; 0: as it is")
    parser.add_argument("--file-bytes-max", type=int, default=0, help="of one file that is written; 0: as it is")
    parser.add_argument("--screen", type=_size, help="WIDTHxHEIGHT of its desktop; none without it")
    parser.add_argument("--gateway", type=Path, help="socket of the proxy of its network; none without it")
    parser.add_argument(
        "--lent-gateway", default="", metavar="ADDRESS:PORT", help="of its network, by connections that its host lends"
    )
    parser.add_argument(
        "--listen", default="", metavar="ADDRESS:PORT", help=f"over TCP, too, for those who know {TOKEN_VARIABLE}"
    )
    parser.add_argument(
        "--listen-fd", type=int, default=-1, metavar="N", help="a socket that listens, in the place of one in --state"
    )
    parser.add_argument("--leashed", action="store_true", help="end when nobody holds its leash")
    arguments = Arguments(**vars(parser.parse_args(argv)))
    if arguments.listen and not os.environ.get(TOKEN_VARIABLE):
        parser.error(f"--listen needs a token in {TOKEN_VARIABLE}")
    return arguments


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


async def run(arguments: Arguments) -> None:
    """Until it is stopped. Raises ``OSError`` and ``sqlite3.Error`` where it cannot begin."""
    _restore_modes(arguments.state)
    await _be_the_only_one(arguments.state)
    token = os.environ.pop(TOKEN_VARIABLE, "")  # no command inherits it
    ledger = Ledger(arguments.state)
    processes = Processes(*_walls(arguments))
    apart = os.fsencode(arguments.state.resolve())
    places = Places(arguments.home, arguments.work, apart, arguments.file_bytes_max)
    alive = arguments.state / ALIVE_NAME
    async with trio.open_nursery() as nursery:
        screens = Screens(processes, *arguments.screen) if arguments.screen else None
        servers = Servers(processes, places, nursery)
        output_bytes_max = arguments.output_bytes_max
        calls = Calls(ledger, processes, places, screens, servers, nursery, output_bytes_max=output_bytes_max)
        calls.recover(_last_seen(alive))
        await nursery.start(processes.reap)
        nursery.start_soon(_stay_alive, alive)
        if screens is not None:
            nursery.start_soon(screens.begin)
        routes, leash = Routes(calls, processes, places, servers, has_desktop=screens is not None), Leash()
        held: dict[tuple[str, ...], Holder] = {("leash",): leash.hold}
        if arguments.gateway:
            nursery.start_soon(serve_gateway, partial(by_socket, arguments.gateway))
        if arguments.lent_gateway:
            host, _, port = arguments.lent_gateway.rpartition(":")
            lent = LentConnections()
            held["network",] = lent.lend
            nursery.start_soon(partial(serve_gateway, lent.way_out, host=host, port=int(port)))
        listener, server = _listener(arguments), Server(routes.answer, held)
        nursery.start_soon(partial(trio.serve_listeners, server.serve, [listener]))
        if arguments.listen:
            await _serve_tcp(nursery, arguments.listen, Server(routes.answer, held, token))
        if arguments.leashed:
            nursery.start_soon(_end_without, leash, calls, routes.stopped)
        await routes.stopped.wait()
        nursery.cancel_scope.cancel()
    ledger.close()


def _listener(arguments: Arguments) -> trio.SocketListener:
    if arguments.listen_fd < 0:
        return listen(arguments.state / SOCKET_NAME)
    os.set_inheritable(arguments.listen_fd, False)
    return taken_over(socket.socket(fileno=arguments.listen_fd))


def _walls(arguments: Arguments) -> list[Confinement]:
    """Around what is begun here. A sandbox that would outlive its maker is a container, whose engine knows no filter of
    ours."""
    walls: tuple[Confinement | None, ...] = (
        wall_of_sandbox(arguments.state),
        filter_of_commands() if arguments.leashed else None,
        FileLimit(arguments.file_bytes_max) if arguments.file_bytes_max else None,
    )
    return [wall for wall in walls if wall is not None]


async def _serve_tcp(nursery: trio.Nursery, address: str, server: Server) -> None:
    host, _, port = address.rpartition(":")
    listener = await listen_tcp(host, int(port))
    nursery.start_soon(partial(trio.serve_listeners, server.serve, [listener]))


async def _end_without(leash: Leash, calls: Calls, stopped: trio.Event) -> None:
    await leash.let_go()
    await calls.end_all(LEASH_LOST)
    stopped.set()


async def _be_the_only_one(state: Path) -> None:
    """One agent before this one may be about to end; another one that stays is an error. Held until this one ends."""
    lock = os.open(state / LOCK_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = trio.current_time() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if trio.current_time() > deadline:
                raise OSError("another one has this ledger") from None
            await trio.sleep(LOCK_LOOK_SECONDS)
        else:
            return


def _limit(arguments: Arguments) -> None:
    """Set the limits of this process and all that it begins."""
    wanted = {
        resource.RLIMIT_NPROC: arguments.processes_max,
        resource.RLIMIT_NOFILE: arguments.open_files_max,
        resource.RLIMIT_FSIZE: arguments.file_bytes_max and max(arguments.file_bytes_max, OWN_FILE_BYTES_MAX),
    }
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for limit, value in wanted.items():
        if value:
            resource.setrlimit(limit, (value, value))


async def _stay_alive(path: Path) -> None:
    """The last sign of life is what the next agent knows of this one's end."""
    while True:
        _restore_modes(path.parent)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600))
            os.utime(path)
        except (PermissionError, BlockingIOError):
            pass  # a command has closed it just now, or has a lease of it
        await trio.sleep(ALIVE_SECONDS)


def _restore_modes(state: Path) -> None:
    """A command runs as the same user: it may have made the agent's files closed to that user, as by `chmod`; or to
    its host, as its socket."""
    _have_mode(state, 0o700)
    for path in state.iterdir():
        _have_mode(path, 0o700 if path.is_dir() else 0o600)


def _have_mode(path: Path, mode: int) -> None:
    with suppress(FileNotFoundError, PermissionError):  # it is gone by now, or another user's, as what Kubernetes makes
        found = path.lstat().st_mode
        if not stat.S_ISLNK(found) and stat.S_IMODE(found) != mode:
            path.chmod(mode)


def _last_seen(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else time.time()
