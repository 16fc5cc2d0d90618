"""The network of workspaces that have one: an HTTP proxy for each, on a Unix socket that is bound into its sandbox; or,
where the sandbox is on another machine, on connections to its agent that are made from here, a few at a time before
anybody wants one, so that a sandbox which may connect to nobody needs no right to.

``CONNECT name:port`` opens a connection; a request with a whole URL of ``http`` is passed on as one, the only one of
its connection. A name has to be on the template's list, and is looked up here; only addresses of the public network
are connected to (``reach.py``), the very ones that were judged. So a sandbox needs no names, no routes and no
network, and has nothing else to get out by.

What happens on failure: what may not be reached is answered with 403 and a line that says so, what cannot be with
502; a head that is none, too long or too slow ends its connection. Each workspace has places of its own, for
connections and for names to be looked up, so that one which takes all it can is in nobody else's way.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import h11
import trio

from chatcluster import telemetry
from chatcluster.h11_patterns import read_in_one_go
from chatcluster.workspace_errors import WorkspaceUnreachable
from chatcluster.workspaces.agent.pipes import join
from chatcluster.workspaces.agent.server import listen
from chatcluster.workspaces.reach import Network, Reach

CONNECTIONS_MAX = 64
LOOKUPS_MAX = 4
HEAD_BYTES_MAX = 32 << 10
HEAD_SECONDS = 10.0
DIAL_SECONDS = 15.0
ADDRESSES_TRIED_MAX = 4
SPARE_CONNECTIONS = 4
"""Connections to an agent's machine that are kept ready for programs to come."""
LEND_RETRY_SECONDS = 1.0
REFUSAL = b"HTTP/"
"""The beginning of what an agent says that does not take it; a program begins with what it asks for."""
REFUSALS_TOLD_MAX = 20
"""So many refusals the log has of one start of a workspace."""
HTTP_PORT = 80
_HOP_HEADERS = {b"proxy-connection", b"proxy-authorization", b"connection", b"keep-alive", b"host"}


Lend = Callable[[], Awaitable[trio.SocketStream]]
"""A connection on which a program may ask the proxy. Raises ``WorkspaceUnreachable``."""


class _No(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class _Target(NamedTuple):
    host: str
    port: int
    head: bytes
    """What goes out first: nothing by ``CONNECT``."""


class NetworkProxies:
    """The proxies of one host's workspaces, in ``nursery``. ``private``: networks of one's own that may be reached."""

    def __init__(self, nursery: trio.Nursery, private: tuple[Network, ...] = ()) -> None:
        read_in_one_go()
        self._nursery = nursery
        self._private = private
        self._open: dict[str, trio.CancelScope] = {}

    def open(self, workspace_id: str, path: Path, hosts: tuple[str, ...], user: int | None) -> None:
        """Serve at this socket, which is the ``user``'s. Raises ``OSError``."""
        path.parent.mkdir(mode=0o711, exist_ok=True)
        listener = listen(path)
        if user is not None:
            os.chown(path, user, user)
        self._begin(workspace_id, hosts, partial(_serve, listener))

    def lend(self, workspace_id: str, lend: Lend, hosts: tuple[str, ...]) -> None:
        """Serve on connections that are made from here."""
        self._begin(workspace_id, hosts, partial(_serve_lent, lend))

    def _begin(self, workspace_id: str, hosts: tuple[str, ...], serve: Callable[[_Proxy], Awaitable[None]]) -> None:
        self.close(workspace_id)
        scope = self._open[workspace_id] = trio.CancelScope()
        proxy = _Proxy(workspace_id, Reach(hosts, self._private))
        self._nursery.start_soon(_until_closed, partial(serve, proxy), scope)

    def close(self, workspace_id: str) -> None:
        """Close it with all connections that go through it."""
        if (scope := self._open.pop(workspace_id, None)) is not None:
            scope.cancel()


async def _until_closed(serve: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    with scope:
        await serve()


async def _serve(listener: trio.SocketListener, proxy: _Proxy) -> None:
    await trio.serve_listeners(proxy.serve, [listener])


async def _serve_lent(lend: Lend, proxy: _Proxy) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(SPARE_CONNECTIONS):
            nursery.start_soon(_keep_lending, lend, proxy, nursery)


async def _keep_lending(lend: Lend, proxy: _Proxy, nursery: trio.Nursery) -> None:
    """One at a time, until it is used; the next one is lent while it is."""
    while True:
        if not await nursery.start(_lend_one, lend, proxy):
            await trio.sleep(LEND_RETRY_SECONDS)


async def _lend_one(lend: Lend, proxy: _Proxy, task_status: trio.TaskStatus[bool]) -> None:
    """Tells whether there is a use for it, as soon as that is known."""
    try:
        inside = await lend()
    except WorkspaceUnreachable:
        task_status.started(False)
        return
    async with inside:
        said = b""
        with suppress(OSError):
            said = await inside.socket.recv(len(REFUSAL), socket.MSG_PEEK)
        has_begun = said not in (b"", REFUSAL)
        task_status.started(has_begun)
        if has_begun:
            await proxy.serve(inside)


class _Proxy:
    def __init__(self, workspace_id: str, reach: Reach) -> None:
        self._workspace_id = workspace_id
        self._reach = reach
        self._connections = 0
        self._lookups = trio.CapacityLimiter(LOOKUPS_MAX)
        self._told = 0

    async def serve(self, inside: trio.SocketStream) -> None:
        """One connection. It never raises for what the other side does."""
        async with inside:
            if self._connections >= CONNECTIONS_MAX:
                return
            self._connections += 1
            try:
                await self._serve(inside)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
                pass  # whoever asked is gone, or says nothing
            except Exception as error:  # noqa: BLE001 - one connection ends nobody else's
                telemetry.event("workspace.network_crashed", workspace_id=self._workspace_id, exc_info=error)
            finally:
                self._connections -= 1

    async def _serve(self, inside: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        try:
            with trio.fail_after(HEAD_SECONDS):
                request = await _head(connection, inside)
            target = _target(request)
            outside = await self._dialled(target)
        except _No as no:
            await inside.send_all(_answer(no.status, str(no)))
            return
        async with outside:
            rest = connection.trailing_data[0]
            if not target.head:
                await inside.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await outside.send_all(target.head + rest)
            await join(inside, outside)

    async def _dialled(self, target: _Target) -> trio.SocketStream:
        place = f"{target.host}:{target.port}"
        if not self._reach.names(target.host, target.port):
            self._tell(place, "not on the list")
            raise _No(403, f"{place} is not in the network of this workspace: its template lists what it may reach")
        try:
            with trio.fail_after(DIAL_SECONDS):
                return await self._connected(target, place)
        except trio.TooSlowError:
            raise _No(504, f"{place} takes no connection within {DIAL_SECONDS:g} s") from None
        except OSError as error:
            raise _No(502, f"{place} cannot be reached: {error.strerror or error}") from None
        except UnicodeError:
            raise _No(502, f"{place} cannot be reached: that is no name of a host") from None

    async def _connected(self, target: _Target, place: str) -> trio.SocketStream:
        """A connection by an address that was judged. Raises ``OSError``, ``_No``, and ``UnicodeError`` for what is no
        name."""
        look_up = partial(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
        found = await trio.to_thread.run_sync(look_up, limiter=self._lookups, abandon_on_cancel=True)
        usable = [one for one in found if self._is_usable(one[0], one[4])][:ADDRESSES_TRIED_MAX]
        if not usable:
            self._tell(place, "no public address")
            raise _No(403, f"{place} leads to no public address")
        for family, kind, protocol, _, address in usable[:-1]:
            with suppress(OSError), trio.move_on_after(DIAL_SECONDS / ADDRESSES_TRIED_MAX):
                return await _connect(family, kind, protocol, address)
        family, kind, protocol, _, address = usable[-1]
        return await _connect(family, kind, protocol, address)

    def _is_usable(self, family: int, address: Any) -> bool:
        """This machine may have a public address as well: of its own only those are reached that are let in."""
        text = str(address[0])
        return self._reach.leads_to(text) and (self._reach.lets_in(text) or not _is_own(family, address))

    def _tell(self, place: str, why: str) -> None:
        self._told += 1
        if self._told <= REFUSALS_TOLD_MAX:
            telemetry.event("workspace.network_refused", workspace_id=self._workspace_id, place=place[:300], reason=why)


async def _head(connection: h11.Connection, inside: trio.SocketStream) -> h11.Request:
    """Raises ``_No``."""
    try:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(bytes(await inside.receive_some(HEAD_BYTES_MAX)))
    except h11.RemoteProtocolError as error:
        raise _No(400, f"this is no request: {error}") from None
    if not isinstance(event, h11.Request):
        raise trio.BrokenResourceError
    return event


def _target(request: h11.Request) -> _Target:
    """Raises ``_No``."""
    try:
        text = request.target.decode("ascii")
        if request.method == b"CONNECT":
            host, _, port = text.rpartition(":")
            if host.isascii() and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16:
                return _Target(host, int(port), b"")
        else:
            parts = urlsplit(text)
            if parts.scheme == "http" and parts.hostname and "@" not in parts.netloc:
                return _Target(parts.hostname, parts.port or HTTP_PORT, _passed_on(request, parts))
    except ValueError:
        pass
    raise _No(400, "a request to this proxy is CONNECT name:port, or has a whole URL of http")


def _passed_on(request: h11.Request, url: SplitResult) -> bytes:
    """The head of the request as its server wants it, which then closes the connection."""
    headers = [(name, value) for name, value in request.headers if name not in _HOP_HEADERS]
    head = h11.Request(
        method=request.method,
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        headers=[(b"host", url.netloc.encode()), *headers, (b"connection", b"close")],
    )
    return h11.Connection(h11.CLIENT).send(head) or b""


def _is_own(family: int, address: Any) -> bool:
    """Whether it is an address of this machine: what goes there comes from there. Nothing is sent."""
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:  # it may have none of this family
        probe.connect(address)
        return bool(probe.getsockname()[0] == address[0])
    return False


async def _connect(family: int, kind: int, protocol: int, address: object) -> trio.SocketStream:
    opened = trio.socket.socket(family, kind, protocol)
    try:
        await opened.connect(address)
    except BaseException:
        opened.close()
        raise
    return trio.SocketStream(opened)


def _answer(status: int, words: str) -> bytes:
    content = f"{words}\n".encode("ascii", "replace")
    head = f"HTTP/1.1 {status} Refused\r\ncontent-type: text/plain\r\ncontent-length: {len(content)}\r\n"
    return f"{head}connection: close\r\n\r\n".encode() + content
