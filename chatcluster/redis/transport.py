"""The way to a Redis server: what its URL says, and bytes there and back, over TCP, TLS or a Unix socket.

redis-py reads the URL, so that one that works elsewhere works here; what it says beyond the place, the
login and TLS is refused rather than ignored.

A plain connection is a socket that is written and read without asking trio's leave when that takes no waiting:
an exchange then costs one switch of tasks, which is the wait for the answer. A TLS connection is trio's
``SSLStream``. Neither has an orderly end: ``close`` closes the socket, at once and without waiting for the
other side.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import trio
from redis.connection import SSLConnection, parse_url

from chatcluster.errors import ConfigError, StreamsMisconfigured, StreamsUnavailable

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379
RECEIVE_BYTES_MAX = 65536
_DEAD_PEER_OPTIONS = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 2000}
"""The kernel ends a connection whose other side is gone, also one on which nothing is asked: in seconds, the last one
in milliseconds."""

_LOGIN_OPTIONS = {"username", "password", "db", "client_name"}
_TCP_OPTIONS = _LOGIN_OPTIONS | {"host", "port"}
_AUTHORITIES = {"ssl_ca_certs": "cafile", "ssl_ca_path": "capath", "ssl_ca_data": "cadata"}
_TLS_OPTIONS = _AUTHORITIES.keys() | {
    *("ssl_cert_reqs", "ssl_check_hostname", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    *("ssl_ciphers", "ssl_min_version"),
}
_OPTIONS = {"redis": _TCP_OPTIONS, "rediss": _TCP_OPTIONS | _TLS_OPTIONS, "unix": _LOGIN_OPTIONS | {"path"}}
_VERIFY_MODES = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True)
class RedisAddress:
    """Where a server is, and who we are there."""

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str = ""
    """The path of a Unix socket, in place of host and port; empty for TCP."""
    tls: ssl.SSLContext | None = None
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    client_name: str = ""


def parse_address(url: str) -> RedisAddress:
    """What ``url`` (redis://, rediss:// or unix://) says. Raises ``ConfigError`` if it is no such URL, or has an
    option that is not understood, or files that cannot be read."""
    try:
        _refuse_unescaped(url)
        options = parse_url(url)  # type: ignore[no-untyped-call]
        _refuse_what_is_not_understood(url, options)
        return _address(options)
    except ValueError as error:
        raise ConfigError(f"the Redis URL cannot be used: {error}") from None
    except OSError as error:
        raise ConfigError(f"the Redis URL names TLS files that cannot be used: {error}") from None


def _refuse_unescaped(url: str) -> None:
    """Refuse a port that is no number without showing it, as it may be the beginning of a password."""
    try:
        urlsplit(url).port  # noqa: B018
    except ValueError:
        raise ValueError("its port is not a number (in a password / is %2F, # is %23, ? is %3F)") from None


def _refuse_what_is_not_understood(url: str, options: Mapping[str, Any]) -> None:
    scheme, path = urlsplit(url).scheme, urlsplit(url).path
    if scheme == "unix" and not path:
        raise ValueError("it has no path")
    if scheme != "unix" and path.strip("/") and "db" not in options:
        raise ValueError("its database is not a number")
    unknown = sorted(options.keys() - _OPTIONS[scheme] - {"connection_class"})
    if unknown:
        raise ValueError(f"not understood here: {', '.join(unknown)}")


def _address(options: Mapping[str, Any]) -> RedisAddress:
    has_tls = options.get("connection_class") is SSLConnection
    host, port = options.get("host", DEFAULT_HOST), int(options.get("port", DEFAULT_PORT))
    host.encode("idna")  # raises a ValueError for what cannot be a name
    if not 0 < port < 65536:
        raise ValueError("its port is out of range")
    return RedisAddress(
        host=host,
        port=port,
        path=options.get("path", ""),
        tls=_tls_context(options) if has_tls else None,
        username=options.get("username", ""),
        password=options.get("password", ""),
        database=options.get("db", 0),
        client_name=options.get("client_name", ""),
    )


def _tls_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS context that redis-py would make of these options of the URL."""
    context = ssl.create_default_context()
    cert_reqs = options.get("ssl_cert_reqs", "required")
    if cert_reqs not in _VERIFY_MODES:
        raise ValueError(f"its ssl_cert_reqs is not one of {', '.join(_VERIFY_MODES)}")
    context.check_hostname = cert_reqs != "none" and options.get("ssl_check_hostname", True) is not False
    context.verify_mode = _VERIFY_MODES[cert_reqs]
    authorities = {name: options[option] for option, name in _AUTHORITIES.items() if option in options}
    if authorities:
        context.load_verify_locations(**authorities)
    if "ssl_certfile" in options:
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"), options.get("ssl_password"))
    if "ssl_min_version" in options:
        context.minimum_version = ssl.TLSVersion(int(options["ssl_min_version"]))
    if "ssl_ciphers" in options:
        context.set_ciphers(options["ssl_ciphers"])
    return context


class Transport(Protocol):
    """Bytes there and back. Whatever it raises, other than ``trio.Cancelled``, is one of ``TRANSPORT_ERRORS``."""

    async def send(self, data: bytes) -> None:
        """Send all of it. One task at a time. Need not be a checkpoint. When it raises, some may have been sent."""

    async def receive(self) -> bytes:
        """The bytes that have arrived, up to ``RECEIVE_BYTES_MAX`` of them, never none. A checkpoint."""

    def is_silent(self) -> bool:
        """Whether the server has neither sent anything that was not received, nor closed the connection."""

    def close(self) -> None:
        """Give the socket up. A task that waits in ``receive`` or ``send`` gets an error."""


TRANSPORT_ERRORS = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


async def open_transport(address: RedisAddress) -> Transport:
    """Connect. Raises ``StreamsUnavailable``. Not bounded in time."""
    try:
        stream = await _open_stream(address)
        if address.tls is None:
            return _PlainTransport(stream)
        return await _open_tls(stream, address.tls, address.host)
    except TRANSPORT_ERRORS as error:
        kind = StreamsMisconfigured if _is_for_good(error.__cause__) else StreamsUnavailable
        raise kind(f"no connection to Redis: {_reason(error)}") from error


async def _open_stream(address: RedisAddress) -> trio.SocketStream:
    if address.path:
        return await trio.open_unix_socket(address.path)
    stream = await trio.open_tcp_stream(address.host, address.port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _DEAD_PEER_OPTIONS.items():
        if hasattr(socket, option):  # what a system lacks, the deadlines of connections.py do without it
            stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return stream


async def _open_tls(stream: trio.SocketStream, context: ssl.SSLContext, host: str) -> Transport:
    transport = _TlsTransport(stream, context, host)
    try:
        await transport.shake_hands()
    except BaseException:
        transport.close()
        raise
    return transport


def _is_for_good(cause: BaseException | None) -> bool:
    """Whether TLS fails until somebody changes something: the certificate, or a server that does not speak it."""
    return isinstance(cause, ssl.SSLCertVerificationError) or (
        isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER"
    )


def _reason(error: BaseException) -> str:
    """The text of an error, with those of the attempts that it sums up or the fault that it wraps."""
    match error.__cause__:
        case BaseExceptionGroup(exceptions=attempts):
            return f"{error} ({'; '.join(str(attempt) for attempt in attempts)})"
        case ssl.SSLError() as fault:
            return str(fault)
        case _:
            return str(error)


class _PlainTransport:
    """A non-blocking socket of the standard library's: trio's own costs a switch of tasks for every call."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self.is_silent = _silence_of(self._socket.fileno())

    async def send(self, data: bytes) -> None:
        sent = self._send_some(data)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                await trio.lowlevel.wait_writable(self._socket)
                rest = rest[self._send_some(rest) :]

    def _send_some(self, data: bytes | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return _not_the_end(self._socket.recv(RECEIVE_BYTES_MAX))
            except BlockingIOError:
                continue  # awoken for nothing, which the kernel may do

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


class _TlsTransport:
    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext, host: str) -> None:
        self._socket = stream.socket
        self._stream = trio.SSLStream(stream, context, server_hostname=host)
        self.is_silent = _silence_of(self._socket.fileno())

    async def shake_hands(self) -> None:
        await self._stream.do_handshake()

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def receive(self) -> bytes:
        return _not_the_end(bytes(await self._stream.receive_some(RECEIVE_BYTES_MAX)))

    def close(self) -> None:
        self._socket.close()


def _silence_of(descriptor: int) -> Callable[[], bool]:
    """Tells of an open socket whether a read would have to wait. Costs one system call."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: not poll.poll(0)


def _not_the_end(data: bytes) -> bytes:
    if not data:
        raise ConnectionResetError("the server closed the connection")
    return data
