"""An embedded Redis that keeps nothing: on 127.0.0.1, a free port, and a password made for it.

Port and password stay the same when the same object is started again, so that clients find it; its data
do not. Where no Redis is to be had, fakeredis's server takes its place (``fake_redis.py``): slower, one
process of Python, but the same commands.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from pathlib import Path

from chatcluster.errors import ConfigError
from chatcluster.local.embedded import child
from chatcluster.local.embedded.binaries import INSTALL_HINT, find_redis, has_fakeredis
from chatcluster.local.embedded.embedded_server import EmbeddedServer
from chatcluster.local.embedded.home import locked

HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
PORTS_TRIED_MAX = 5
STOP_ESCALATION = ((signal.SIGTERM, 5.0),)
LEFTOVER_ESCALATION = ((signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
FAKE_REDIS_PASSWORD_VARIABLE = "CHATCLUSTER_FAKE_REDIS_PASSWORD"
CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
protected-mode yes
daemonize no
save ""
appendonly no
"""


class RedisServer(EmbeddedServer):
    """A Redis server with its configuration and log in ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, "redis.log", STOP_ESCALATION)
        self._home = self._data_dir / "redis"
        self._port: int | None = None
        self._password = secrets.token_urlsafe(24)

    def _url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    def _start(self) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._held.enter_context(locked(self._home / "lock"))
        child.stop_leftovers(self._home, "redis-server", *LEFTOVER_ESCALATION)
        if self._port is not None:
            self._launch(self._port)
            return
        for _ in range(PORTS_TRIED_MAX):
            port = free_port(HOST)
            try:
                self._launch(port)
            except ConfigError:
                if not _listens(port):  # otherwise somebody else took the port between our look and its start
                    raise
                continue
            self._port = port
            return
        raise ConfigError("no free port for Redis")

    def _launch(self, port: int) -> None:
        self._process = child.spawn(
            self._program(port),
            log=self._log,
            death_signal=signal.SIGKILL,
            environment=os.environ | {FAKE_REDIS_PASSWORD_VARIABLE: self._password},
            directory=self._home,
        )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _answers(port, self._password):
            if self._process.poll() is not None:
                raise ConfigError(f"Redis does not start: {child.last_line(self._log)} (see {self._log})")
            if time.monotonic() > deadline:
                raise ConfigError(f"Redis is not ready after {START_SECONDS_MAX:.0f} s (see {self._log})")
            time.sleep(child.POLL_SECONDS)

    def _program(self, port: int) -> list[str]:
        server = find_redis()
        if server is not None:
            configuration = self._home / "redis.conf"
            configuration.touch(mode=0o600)
            configuration.write_text(CONFIGURATION.format(host=HOST, port=port, password=self._password))
            return [server, str(configuration)]
        if has_fakeredis():
            return [sys.executable, "-P", "-m", "chatcluster.local.embedded.fake_redis", HOST, str(port)]
        raise ConfigError(f"no Redis server (>= 6.2): {INSTALL_HINT}, or give a --redis-url")


def free_port(host: str) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _answers(port: int, password: str) -> bool:
    """Whether it is our server that answers there: it knows the password."""
    command = f"*2\r\n$4\r\nAUTH\r\n${len(password)}\r\n{password}\r\n".encode()
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(command)
            return connection.recv(64).startswith(b"+OK")
    except OSError:
        return False
