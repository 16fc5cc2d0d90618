"""Listening sockets, with errors that say what to do."""

from __future__ import annotations

import errno
import socket

from chatcluster.errors import ConfigError

BACKLOG = 1024


def listening_socket(host: str, port: int) -> socket.socket:
    """A TCP socket that listens on ``host`` and ``port`` (0: a free one). Raises ``ConfigError``."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}: {error.strerror}") from None
    except UnicodeError:
        raise ConfigError(f"cannot listen on {host}: it is no host name") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "it is in use; choose another --port" if error.errno == errno.EADDRINUSE else error.strerror
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}") from None
    return listener


def inherited_socket(descriptor: int) -> socket.socket:
    """The socket that this process was started with. Raises ``ConfigError``."""
    try:
        return socket.socket(fileno=descriptor)
    except (OSError, ValueError, OverflowError):
        raise ConfigError(f"--listen-fd: descriptor {descriptor} is no socket") from None
