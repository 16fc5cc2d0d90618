"""A Postgres whose clock can be set, and that can have a standby.

The clock is that of the server's processes alone, by libfaketime: they read how far it is off from a file, at most a
second late. The monotonic clock goes on as it does. ``libfaketime`` is loaded by ``env``, under the server's own user,
because what it keeps in ``/dev/shm`` belongs to that user.

A standby is a copy of a running server (``pg_basebackup``), that follows it asynchronously until it is promoted.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from chatcluster.errors import ConfigError
from chatcluster.local.embedded import PostgresServer, child
from chatcluster.local.embedded.binaries import PostgresInstallation, find_postgres
from chatcluster.local.embedded.child import Identity
from chatcluster.local.embedded.home import choose_identity, create_home, socket_directory
from chatcluster.local.embedded.postgres_server import DATABASE, ENVIRONMENT, SETTINGS, USER

REPLICATED = {
    "wal_level": "replica",
    "max_wal_senders": "4",
    "wal_keep_size": "256MB",
    "dynamic_shared_memory_type": "mmap",
}
"""Shared memory in the data directory goes with it, where a server is killed and not started again."""
REPLICATION_ALLOWED = "local replication all trust\n"
COPY_SECONDS_MAX = 120.0
SOCKET_NAME = ".s.PGSQL.5432"
SHARED_MEMORY = Path("/dev/shm")


class PostgresHost(PostgresServer):
    """``clock`` is the file that says how far the server's clock is off, None for the machine's clock."""

    def __init__(self, data_dir: Path, *, connections_max: int, replicated: bool, clock: Path | None) -> None:
        super().__init__(data_dir, connections_max=connections_max)
        self.data_dir = data_dir.absolute()
        self._settings: Mapping[str, str] = SETTINGS | (REPLICATED if replicated else {})
        self._replicated = replicated
        self._clock = clock

    @property
    def socket(self) -> Path:
        """Where a running server listens."""
        assert self._home is not None
        return socket_directory(self._home, self._identity) / SOCKET_NAME

    def _launch(self, installation: PostgresInstallation, home: Path) -> None:
        if self._replicated:
            _allow_replication(home / "data" / "pg_hba.conf")
        settings = {
            **self._settings,
            "max_connections": str(self._connections_max),
            "unix_socket_directories": str(socket_directory(home, self._identity)),
        }
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        self._process = child.spawn(
            [*self._with_clock(), installation.program("postgres"), "-D", str(home / "data"), *options],
            log=self._log,
            death_signal=signal.SIGINT,
            identity=self._identity,
            environment=ENVIRONMENT,
            directory=home,
        )
        self._wait_ready(self._process, home / "data" / "postmaster.pid")

    def _with_clock(self) -> list[str]:
        library = find_faketime()
        if self._clock is None or library is None:
            return []
        return [
            find_env(),
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._clock}",
            "FAKETIME_CACHE_DURATION=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]

    def _let_go(self) -> None:
        if self._process is not None and self._clock is not None:  # what libfaketime leaves behind
            for path in SHARED_MEMORY.glob(f"*faketime_*_{self._process.pid}"):
                path.unlink(missing_ok=True)
        super()._let_go()

    def copy(self, data_dir: Path, port: int) -> PostgresHost:
        """A standby, started and ready; it follows through ``port`` of this machine. Raises ``ConfigError``."""
        standby = PostgresHost(
            data_dir, connections_max=self._connections_max, replicated=self._replicated, clock=self._clock
        )
        data_dir.mkdir(mode=0o755)
        identity = choose_identity(None)
        home = create_home(data_dir, identity)
        program = find_basebackup()
        if program is None:
            raise ConfigError("there is no pg_basebackup here")
        options = ["-D", str(home / "data"), "-h", "127.0.0.1", "-p", str(port), "-U", USER, "-R", "-X", "stream"]
        _copy([program, *options, "-c", "fast"], identity, data_dir)
        standby.start()
        return standby

    def discard(self) -> None:
        """The data of a server that nobody needs any more."""
        self.kill()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)


def url_through(port: int) -> str:
    """The database behind a door of this machine."""
    return f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"


def find_basebackup() -> str | None:
    """``pg_basebackup`` of the very server that is used."""
    try:
        program = Path(find_postgres(None, choose_identity(None), Path("/nonexistent")).program("pg_basebackup"))
    except (ConfigError, OSError):
        return None
    return str(program) if program.exists() else None


def find_faketime() -> str | None:
    """The library, where distributions put it."""
    places = [path for pattern in ("lib/*/faketime", "lib*/faketime") for path in Path("/usr").glob(pattern)]
    found = (place / "libfaketime.so.1" for place in places)
    return next((str(path) for path in found if path.exists() and find_env()), None)


def find_env() -> str:
    return shutil.which("env") or ""


def _allow_replication(access: Path) -> None:
    rules = access.read_text()
    if REPLICATION_ALLOWED not in rules:
        access.write_text(rules + REPLICATION_ALLOWED)


def _copy(program: list[str], identity: Identity | None, directory: Path) -> None:
    try:
        result = subprocess.run(
            child.guarded(program, signal.SIGKILL, identity),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COPY_SECONDS_MAX,
            env=ENVIRONMENT,
            cwd=directory,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"pg_basebackup did not end within {COPY_SECONDS_MAX:.0f} s") from None
    if result.returncode != 0:
        raise ConfigError(f"pg_basebackup failed: {result.stderr.strip()[-400:]}")
