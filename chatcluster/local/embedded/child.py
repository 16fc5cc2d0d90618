"""Child processes: started so that they die with us, stopped within a bound, found again if left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")
LOG_BYTES_MAX = 10 << 20
TAIL_BYTES = 4096
POLL_SECONDS = 0.01

_spawner = ThreadPoolExecutor(1, "spawner")
"""The death signal comes when the starting *thread* ends; this one ends with the process."""


@dataclass(frozen=True)
class Identity:
    """The user that a server runs as when we are root."""

    uid: int
    gid: int


def guarded(program: Sequence[str], death_signal: signal.Signals, identity: Identity | None) -> list[str]:
    """The command that becomes ``program`` (whose first item is a path) as ``guard.py`` says."""
    uid, gid = (identity.uid, identity.gid) if identity else (-1, -1)
    numbers = (os.getpid(), int(death_signal), uid, gid)
    return [sys.executable, "-I", "-S", str(GUARD), *map(str, numbers), *program]


def spawn(
    program: Sequence[str],
    *,
    log: Path,
    death_signal: signal.Signals,
    identity: Identity | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    inherited_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start ``program`` (its first item is a path) in a session of its own; its output goes to ``log``.

    ``death_signal`` is what it gets when this process dies. ``identity`` is whom it runs as, None for us.
    ``environment`` replaces ours. Raises ``OSError``.
    """

    def start() -> subprocess.Popen[bytes]:
        with open_log(log) as output:
            return subprocess.Popen(
                guarded(program, death_signal, identity),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=directory,
                pass_fds=inherited_fds,
                start_new_session=True,
            )

    return _spawner.submit(start).result()


def open_log(path: Path) -> IO[bytes]:
    """``path`` for appending, private to us; a large one is put aside as ``NAME.1`` first."""
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    return open(path, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600))


def last_line(log: Path, *words: str) -> str:
    """The last line near the end of ``log`` that has one of ``words`` in it, or else its very last one."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    telling = [line for line in lines if any(word in line for word in words)]
    return (telling or lines or [""])[-1].strip()


def stop(process: subprocess.Popen[bytes], *escalation: tuple[signal.Signals, float]) -> None:
    """Send each signal in turn and wait up to its seconds for the end; at last SIGKILL."""
    for number, seconds in escalation:
        process.send_signal(number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    process.kill()
    process.wait()


def processes_in(directory: Path, program: str) -> frozenset[int]:
    """The running processes named ``program…`` whose working directory is ``directory`` (Linux; elsewhere none)."""
    wanted = str(directory.resolve())
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == wanted and (entry / "comm").read_text().startswith(program):
                found.add(int(entry.name))
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return frozenset(found)


def stop_leftovers(directory: Path, program: str, *escalation: tuple[signal.Signals, float]) -> None:
    """End what an earlier, killed starter left running in ``directory``: each signal in turn, with its seconds.

    The caller holds the lock of the directory, so that nobody alive can want these processes.
    """
    for number, seconds in escalation:
        if _signal_until_gone(directory, program, number, seconds):
            return


def _signal_until_gone(directory: Path, program: str, number: signal.Signals, seconds: float) -> bool:
    """True when nothing is left; each process is signalled once."""
    deadline = time.monotonic() + seconds
    signalled: set[int] = set()
    while found := processes_in(directory, program):
        for pid in found - signalled:
            signalled.add(pid)
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
