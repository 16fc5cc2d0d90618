"""What a cluster of our own says about itself: the replicas' logs, and what their supervisor prints.

From it come the violations that no client can see:

* a **crash**: a replica died that the run did not kill (or not in that way), or one of its loops broke;
* a **false takeover**: a replica was declared dead that lived. Its work goes on elsewhere and no client may notice,
  but each one is a moment without progress. While Postgres is away, and for as long as leases take after it,
  nobody can tell who lives.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from checker import Fault, Kind, Violation

AFTERMATH_SECONDS = 10.0
"""How long after the return of Postgres leases may be found to have run out."""
LAST_WORDS_LINES = 30
ENDINGS = {"kill": "was killed by SIGKILL", "term": "ended with exit code 0"}
"""What the supervisor says of a replica after such a fault."""
ENDING = (*ENDINGS, "stop")
"""Faults after which a replica is rightly taken for dead. One whose connection broke is not."""
NOT_RENEWED = "not renewed in time"
_ENDED = re.compile(r"^(\S+) (was killed by \w+|ended with exit code \d+); starting it again")
_BURIED, _LOST, _CRASHED = b'"replica.buried"', b'"lease.lost"', b'.crashed"'
_STARTED = b'"replica.started"'


class Death(NamedTuple):
    name: str
    ending: str


class Journal:
    """Read as it grows: ``crashes`` returns what is new. ``logs`` has the replicas' logs."""

    def __init__(self, logs: Path, supervisor: Path) -> None:
        self._logs = logs
        self._supervisor = supervisor
        self._read: dict[Path, int] = {}
        self._inflicted: Counter[Death] = Counter()

    def expect(self, name: str, fault: str) -> None:
        """Replica ``name`` is about to die of a fault of this kind, if one dies of it."""
        if fault in ENDINGS:
            self._inflicted[Death(name, ENDINGS[fault])] += 1

    def crashes(self) -> Iterator[Violation]:
        """Deaths that nobody inflicted, and loops that broke, since the last call."""
        for line in self._new_lines(self._supervisor):
            ended = _ENDED.match(line.decode(errors="replace"))
            if ended is not None and not self._was_inflicted(Death(ended[1], ended[2])):
                words = "\n".join(self._last_words(ended[1]))
                yield Violation(Kind.CRASH, "", f"{ended[1]} {ended[2]}, and nobody did that to it:\n{words}")
        for path in sorted(self._logs.glob("replica-*.log")):
            for line in self._new_lines(path):
                if _CRASHED in line:
                    yield Violation(Kind.CRASH, "", f"{path.stem}: {line.decode(errors='replace')}")

    def _was_inflicted(self, death: Death) -> bool:
        if not self._inflicted[death]:
            return False
        self._inflicted[death] -= 1
        return True

    def _last_words(self, name: str) -> Sequence[str]:
        path = self._logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return lines[-LAST_WORDS_LINES:]

    def _new_lines(self, path: Path) -> list[bytes]:
        """Whole lines that were not read before; a log that was put aside begins anew."""
        if not path.exists():
            return []
        start = self._read.get(path, 0)
        with open(path, "rb") as file:
            file.seek(start if path.stat().st_size >= start else 0)
            *lines, rest = file.read().split(b"\n")
            self._read[path] = file.tell() - len(rest)
        return lines


def false_takeovers(logs: Path, faults: Sequence[Fault], clock_offset: float) -> Iterator[Violation]:
    """The workers that were taken for dead and lived. ``clock_offset`` makes the time of day of our clock's times."""
    victims = set(_victims(logs, faults, clock_offset))
    outages = [
        (fault.time + clock_offset, fault.until + clock_offset + AFTERMATH_SECONDS)
        for fault in faults
        if fault.kind.startswith(("postgres", "failover"))
    ]
    for worker_id, entry in _taken_for_dead(logs):
        time = time_of(entry)
        if worker_id not in victims and not any(begin <= time <= end for begin, end in outages):
            yield Violation(Kind.FALSE_TAKEOVER, "", f"{entry}", time - clock_offset)


def _victims(logs: Path, faults: Sequence[Fault], clock_offset: float) -> Iterator[str]:
    """The workers that the processes were which were hurt. By their logs, where they are here: a process may have lost
    its lease, and be another worker, since the run asked who it is."""
    started = [(entry["name"], time_of(entry), entry["worker_id"]) for entry in entries(logs, _STARTED)]
    for fault in faults:
        if fault.kind in ENDING:
            before = [one for one in started if one[0] == fault.replica and one[1] <= fault.time + clock_offset]
            yield max(before)[2] if before else fault.worker_id


def _taken_for_dead(logs: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """The first that was said of each worker's end: by others, or by itself. ``told`` is its successor, who knows."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries(logs, _BURIED, _LOST):
        if entry.get("proof") in ("session", "lease") or entry.get("reason") == NOT_RENEWED:
            found.setdefault(entry["worker_id"], entry)
    return found.items()


def entries(logs: Path, *wanted: bytes) -> Iterator[dict[str, Any]]:
    """The lines of all replicas' logs that have one of ``wanted`` in them."""
    for path in sorted(logs.glob("replica-*.log*")):
        for line in path.read_bytes().splitlines():
            if any(word in line for word in wanted):
                yield msgspec.json.decode(line)


def time_of(entry: dict[str, Any]) -> float:
    """The time of day of a line of a log, in seconds."""
    return datetime.fromisoformat(entry["ts"]).timestamp()
