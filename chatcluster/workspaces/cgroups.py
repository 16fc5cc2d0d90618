"""Control groups: memory, processes and shares of the processor of one sandbox, where this process may make them.

Both versions of the kernel's interface are known. A group is made below the root of its hierarchy, as
``chatcluster/<workspace>``, or below the group that was delegated to this process. A hierarchy that cannot be written
costs its limit, and that is said: ``missing`` has a sentence for each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
GROUP = "chatcluster"
PERIOD_MICROSECONDS = 100_000
PROCESSOR_WEIGHT = 25
"""The weight of sandboxes, of 100: what works in one gives way to the replicas of its machine."""

MEMORY_MISSING = "memory is not bounded: no memory control group can be made here"
PROCESSES_MISSING = "processes are bounded by a limit of the user's: no pids control group can be made here"


@dataclass(frozen=True)
class Hierarchies:
    """Directories in which a group for a sandbox can be made; None where there is none."""

    memory: Path | None
    processes: Path | None
    processor: Path | None
    is_unified: bool

    @property
    def missing(self) -> tuple[str, ...]:
        found = ((self.memory, MEMORY_MISSING), (self.processes, PROCESSES_MISSING))
        return tuple(sentence for directory, sentence in found if directory is None)


@dataclass(frozen=True)
class Group:
    """The groups of one sandbox, one in each hierarchy."""

    directories: tuple[Path, ...]

    @property
    def entrances(self) -> list[Path]:
        """A process that writes its ID there is in."""
        return [directory / "cgroup.procs" for directory in self.directories]

    def remove(self) -> None:
        """Once nothing runs in it."""
        for directory in self.directories:
            try:
                directory.rmdir()
            except OSError:  # the kernel has not let go of the dead yet; the next start takes it up again
                continue


@cache
def hierarchies() -> Hierarchies:
    """Where groups can be made on this machine, tried once."""
    if (ROOT / "cgroup.controllers").exists():
        place = _unified_place()
        has = (place / "cgroup.subtree_control").read_text().split() if place else []
        memory, processes, processor = (place if name in has else None for name in ("memory", "pids", "cpu"))
        return Hierarchies(memory, processes, processor, is_unified=True)
    memory, processes, processor = (_place(ROOT / name) for name in ("memory", "pids", "cpu"))
    return Hierarchies(memory, processes, processor, is_unified=False)


def make_group(name: str, *, memory_bytes: int, processes_max: int, cpus: float = 0.0) -> Group:
    """A group for a sandbox, or what can be made of it. Raises ``OSError``."""
    known = hierarchies()
    places = dict.fromkeys(place for place in (known.memory, known.processes, known.processor) if place is not None)
    directories = {place: place / name for place in places}
    for directory in directories.values():
        directory.mkdir(exist_ok=True)
    if known.memory is not None:
        _limit_memory(directories[known.memory], memory_bytes, is_unified=known.is_unified)
    if known.processes is not None:
        (directories[known.processes] / "pids.max").write_text(str(processes_max))
    if known.processor is not None:
        _limit_processor(directories[known.processor], cpus, is_unified=known.is_unified)
    return Group(tuple(directories.values()))


def _limit_memory(directory: Path, memory_bytes: int, *, is_unified: bool) -> None:
    limit, swap = (
        ("memory.max", "memory.swap.max")
        if is_unified
        else (
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
        )
    )
    (directory / limit).write_text(str(memory_bytes))
    if (directory / swap).exists():  # the older interface counts memory as well
        (directory / swap).write_text("0" if is_unified else str(memory_bytes))


def _limit_processor(directory: Path, cpus: float, *, is_unified: bool) -> None:
    quota = str(round(cpus * PERIOD_MICROSECONDS)) if cpus else ""
    if is_unified:
        (directory / "cpu.weight").write_text(str(PROCESSOR_WEIGHT))
        (directory / "cpu.max").write_text(f"{quota or 'max'} {PERIOD_MICROSECONDS}")
    else:
        (directory / "cpu.shares").write_text(str(PROCESSOR_WEIGHT * 10))
        (directory / "cpu.cfs_quota_us").write_text(quota or "-1")


def _unified_place() -> Path | None:
    """A directory below the root, or below our own group where that is delegated, with controllers turned on."""
    own = next((line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")), "/")
    for parent in (ROOT, ROOT / own.lstrip("/")):
        place = _place(parent)
        if place is not None and _turn_on(parent) and _turn_on(place):
            return place
    return None


def _turn_on(directory: Path) -> bool:
    try:
        available = (directory / "cgroup.controllers").read_text().split()
        wanted = " ".join(f"+{name}" for name in ("memory", "pids", "cpu") if name in available)
        (directory / "cgroup.subtree_control").write_text(wanted)
    except OSError:
        return False
    return bool(wanted)


def _place(parent: Path) -> Path | None:
    place = parent / GROUP
    try:
        place.mkdir(exist_ok=True)
    except OSError:
        return None
    return place if os.access(place, os.W_OK) else None
