"""An embedded Postgres: one cluster in a home directory, reached through a Unix socket in it.

States: stopped → (initialised once) → running → stopped. The process is authoritative; ``postmaster.pid``
is read only to learn that it is ready.

* Ours alone: a lock on the home is held while it runs. A process that gets the lock may stop the server
  that it finds running there, because that server's starter must be dead.
* A half-made cluster is not used: ``initdb`` works under another name, which is renamed when it is done.
* A crash (``kill``, or the machine's) costs nothing that was committed; Postgres recovers at the next
  start. ``durable=False`` gives up the machine's crash, not the process's.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from chatcluster.errors import ConfigError
from chatcluster.local.embedded import child
from chatcluster.local.embedded.binaries import PostgresInstallation, find_postgres
from chatcluster.local.embedded.child import Identity
from chatcluster.local.embedded.embedded_server import EmbeddedServer
from chatcluster.local.embedded.home import choose_identity, create_home, existing_home, locked, socket_directory

DATABASE = USER = "chatcluster"
START_SECONDS_MAX = 60.0
"""Long enough for the recovery of a busy cluster; a usual start takes a tenth of a second."""
INITDB_SECONDS_MAX = 60.0
STOP_ESCALATION = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0))
"""Fast shutdown: sessions are ended, a checkpoint is written. Then immediate: recovery at the next start."""
LEFTOVER_ESCALATION = ((signal.SIGINT, 5.0), (signal.SIGKILL, 5.0))
SETTINGS = {
    "listen_addresses": "",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
"""Nothing of ours: PGDATA and its kin would change what the server does."""


class PostgresServer(EmbeddedServer):
    """A Postgres server on ``data_dir`` for up to ``connections_max``; ``durable=False`` turns fsync off.

    The same object may be started again after ``stop`` and ``kill``; its URL stays the same.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True, connections_max: int = 200) -> None:
        super().__init__(data_dir, "postgres.log", STOP_ESCALATION)
        self._durable = durable
        self._connections_max = connections_max
        self._home: Path | None = None
        self._identity: Identity | None = None

    @property
    def home(self) -> Path | None:
        """Where the data is, once started: not always inside the data directory, see ``home.py``."""
        return self._home

    def _start(self) -> None:
        self._data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        home = existing_home(self._data_dir)
        identity = choose_identity(home)
        home = home or create_home(self._data_dir, identity)
        self._home, self._identity = home, identity
        self._held.enter_context(locked(home / "lock"))
        cluster = home / "data"
        child.stop_leftovers(cluster, "postgres", *LEFTOVER_ESCALATION)
        _forget_dead_servers(cluster, socket_directory(home, identity))
        version = cluster / "PG_VERSION"
        major = int(version.read_text()) if version.exists() else None
        installation = find_postgres(major, identity, home)
        if major is None:
            self._initialise(installation, home)
        self._launch(installation, home)

    def _url(self) -> str:
        assert self._home is not None
        socket = socket_directory(self._home, self._identity)
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(socket))}"

    def _initialise(self, installation: PostgresInstallation, home: Path) -> None:
        partial = home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        options = [f"--pgdata={partial}", f"--username={USER}", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        if not self._durable:
            options.append("--no-sync")
        self._run([installation.program("initdb"), *options])
        # The socket's directory is what keeps others out; over the network nobody gets in at all.
        (partial / "pg_hba.conf").write_text("local all all trust\n")
        single_user = [installation.program("postgres"), "--single", "-D", str(partial), "postgres"]
        self._run(single_user, f"CREATE DATABASE {DATABASE}\n")
        partial.rename(home / "data")

    def _run(self, program: list[str], standard_input: str = "") -> None:
        try:
            result = subprocess.run(
                child.guarded(program, signal.SIGKILL, self._identity),
                input=standard_input,
                capture_output=True,
                text=True,
                timeout=INITDB_SECONDS_MAX,
                env=ENVIRONMENT,
                cwd=self._home,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{program[0]} did not end within {INITDB_SECONDS_MAX:.0f} s") from None
        with child.open_log(self._log) as log:
            log.write((result.stdout + result.stderr).encode())
        if result.returncode != 0:
            raise ConfigError(f"{program[0]} failed: {self._last_words()} (see {self._log})")

    def _launch(self, installation: PostgresInstallation, home: Path) -> None:
        settings = SETTINGS | ({} if self._durable else NOT_DURABLE)
        settings["max_connections"] = str(self._connections_max)
        settings["unix_socket_directories"] = str(socket_directory(home, self._identity))
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        self._process = child.spawn(
            [installation.program("postgres"), "-D", str(home / "data"), *options],
            log=self._log,
            death_signal=signal.SIGINT,
            identity=self._identity,
            environment=ENVIRONMENT,
            directory=home,
        )
        self._wait_ready(self._process, home / "data" / "postmaster.pid")

    def _wait_ready(self, process: subprocess.Popen[bytes], pid_file: Path) -> None:
        """The server writes its state into the last line of ``postmaster.pid``; pg_ctl looks there as well."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while not _says_ready(pid_file, process.pid):
            if process.poll() is not None:
                raise ConfigError(f"Postgres does not start: {self._last_words()} (see {self._log})")
            if time.monotonic() > deadline:
                raise ConfigError(f"Postgres is not ready after {START_SECONDS_MAX:.0f} s (see {self._log})")
            time.sleep(child.POLL_SECONDS)

    def _last_words(self) -> str:
        return child.last_line(self._log, "FATAL:", "error:") or "it said nothing"

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        super()._kill(process)
        if self._home is not None:  # its backends outlive it for a moment
            child.stop_leftovers(self._home / "data", "postgres", (signal.SIGKILL, 5.0))


def _says_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _forget_dead_servers(cluster: Path, socket: Path) -> None:
    """Remove the lock files of a killed server.

    Postgres removes them itself unless their process ID belongs to another process by now, as it soon
    does in a container that was restarted. We know better: nothing runs in the cluster's directory.
    """
    if not Path("/proc/self").exists():
        return
    for path in (cluster / "postmaster.pid", socket / ".s.PGSQL.5432.lock"):
        path.unlink(missing_ok=True)
