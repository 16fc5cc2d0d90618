"""`chatcluster up` as a process, for tests that look at it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chatcluster.local.local_cluster import LocalCluster, read_cluster, read_token

CHATCLUSTER = (sys.executable, "-m", "chatcluster")
READY_SECONDS_MAX = 180.0


class ClusterProcess:
    """One run of the supervisor; what it prints goes into files beside its data directory."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self._output = data_dir.with_suffix(".out")
        self._messages = data_dir.with_suffix(".err")
        with open(self._output, "wb") as output, open(self._messages, "wb") as messages:
            self.process = subprocess.Popen(
                [*CHATCLUSTER, "up", "--port", "0", "--data-dir", str(data_dir), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=messages,
                env=clean_environment(),
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def messages(self) -> str:
        return self._messages.read_text()

    @property
    def local(self) -> LocalCluster:
        cluster = read_cluster(self.data_dir)
        assert cluster is not None, self.messages
        return cluster

    @property
    def token(self) -> str:
        token = read_token(self.data_dir)
        assert token is not None
        return token

    def wait_ready(self) -> None:
        wait_until(lambda: "is ready" in self.output or self.process.poll() is not None, READY_SECONDS_MAX)
        assert self.process.poll() is None, self.messages

    def children(self) -> dict[int, str]:
        """All descendants that run: process ID and command."""
        return descendants(self.process.pid)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(READY_SECONDS_MAX)


@contextlib.contextmanager
def cluster_process(data_dir: Path, *arguments: str) -> Iterator[ClusterProcess]:
    """A cluster that is ready, and gone at the end."""
    cluster = ClusterProcess(data_dir, *arguments)
    try:
        cluster.wait_ready()
        yield cluster
    finally:
        if cluster.process.poll() is None:
            cluster.end(signal.SIGTERM)


def clean_environment() -> dict[str, str]:
    """Ours without what would give the cluster a model or settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CHATCLUSTER_", "OPENAI_"))}


def descendants(pid: int) -> dict[int, str]:
    """What runs below a process; zombies do not run."""
    listing = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in listing.splitlines()]
    found: dict[int, str] = {}
    parents = {pid}
    while parents:
        below = {int(row[0]): row[3] for row in rows if int(row[1]) in parents and not row[2].startswith("Z")}
        found |= below
        parents = set(below)
    return found


def is_running(pid: int) -> bool:
    """A zombie does not run; who reaps an orphan, and when, is not ours to say."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_until(condition: Callable[[], object], seconds: float = READY_SECONDS_MAX) -> None:
    """Poll what only the operating system knows."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
