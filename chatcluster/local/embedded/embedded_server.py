"""What the embedded servers have in common: a child process in a data directory, and a lock held while it runs.

States: stopped → running → stopped, as often as wanted. The process is authoritative: one that has died by itself is
stopped, and its lock is let go at the next start. A start that fails leaves nothing behind.
"""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from chatcluster.local.embedded import child


class EmbeddedServer(ABC):
    """A server on ``data_dir`` that writes to ``log``; ``stop_escalation`` is how it is asked to end."""

    def __init__(self, data_dir: Path, log: str, stop_escalation: tuple[tuple[signal.Signals, float], ...]) -> None:
        self._data_dir = data_dir.absolute()
        self._log = self._data_dir / log
        self._stop_escalation = stop_escalation
        self._process: subprocess.Popen[bytes] | None = None
        self._held = ExitStack()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._data_dir} {f'pid {self.pid}' if self.pid else 'stopped'}>"

    @property
    def pid(self) -> int | None:
        """The process ID, None when it is not running."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> str:
        """Start the server, wait until it can be used, and return its URL. Does nothing if it runs.

        Raises ``ConfigError``: nothing to run, a data directory in use or of another version, or a server that does
        not come up.
        """
        if self.pid is None:
            self._let_go()
            try:
                self._start()
            except BaseException:
                self.kill()
                raise
        return self._url()

    @abstractmethod
    def _start(self) -> None:
        """Hold the lock and launch the server; return when it can be used."""

    @abstractmethod
    def _url(self) -> str:
        """The server's URL, once it was started."""

    def stop(self) -> None:
        """End the server in order, within the time of its escalation. Does nothing if it is stopped."""
        if self.pid is not None and self._process is not None:
            child.stop(self._process, *self._stop_escalation)
        self._let_go()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            self._kill(self._process)
        self._let_go()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()

    def _let_go(self) -> None:
        self._process = None
        self._held.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
