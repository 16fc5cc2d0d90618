"""``python -m chatcluster.local.embedded.fake_redis HOST PORT``: fakeredis's server, where there is no Redis.

fakeredis checks a password that it is given, but serves those who give none as well. So a connection is
served only if the password is in its first command, where every client of ours sends it. It comes to us in the
environment: no list of processes shows it.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from typing import Any

from fakeredis import TcpFakeServer

from chatcluster.local.embedded.redis_server import FAKE_REDIS_PASSWORD_VARIABLE

PASSWORD_SECONDS = 2.0
REST_SECONDS = 0.2
FIRST_COMMAND_BYTES_MAX = 1024


class GuardedServer(TcpFakeServer):
    daemon_threads = True
    """The server ends at once when told to, even while clients are connected."""

    def __init__(self, address: tuple[str | bytes | bytearray, int], password: bytes) -> None:
        super().__init__(address)
        self._password = password
        self.fake_server.config[b"requirepass"] = password

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Called in the connection's own thread."""
        if _begins_with(request, self._password):
            super().finish_request(request, client_address)


def _begins_with(connection: socket.socket, password: bytes) -> bool:
    """Whether the first command holds the password; it stays in the socket for the server to read."""
    connection.settimeout(PASSWORD_SECONDS)
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        try:
            seen = connection.recv(FIRST_COMMAND_BYTES_MAX, socket.MSG_PEEK)
        except OSError:
            return False
        if b"\r\n%b\r\n" % password in seen:
            connection.settimeout(None)
            return True
        if not seen:
            return False
        deadline = deadline or time.monotonic() + REST_SECONDS
        time.sleep(0.01)  # the rest may be on its way
    return False


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    GuardedServer((host, port), os.environ[FAKE_REDIS_PASSWORD_VARIABLE].encode()).serve_forever()


if __name__ == "__main__":
    main()
