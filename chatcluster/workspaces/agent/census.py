"""Which processes there are in the sandbox, and to which call each belongs.

A process belongs to a call if it has the call's mark in its environment, is in the session that the call's command was
begun in, or has a parent that belongs to it. One that has shaken off all three belongs to no call; it is ended with
any call that was begun before it, so that no process runs on for ever. A mark that the agent never gave is
none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

MARK = "CHATCLUSTER_CALL"
ENVIRONMENT_BYTES_MAX = 64 << 10

_MARKED = re.compile(rb"(?:^|\0)" + MARK.encode() + rb"=(\d+)\0")


class Seen(NamedTuple):
    pid: int
    parent: int
    session: int
    started_ticks: int
    """Since the machine booted."""
    is_zombie: bool
    mark: int | None


def census() -> dict[int, Seen]:
    """All processes that come from this one and are not dead. As process 1 that is everybody."""
    found = {seen.pid: seen for name in os.listdir("/proc") if name.isdigit() and (seen := look(int(name)))}
    children: dict[int, list[Seen]] = {}
    for seen in found.values():
        children.setdefault(seen.parent, []).append(seen)
    ours: dict[int, Seen] = {}
    parents = [os.getpid()]
    while parents:
        for seen in children.get(parents.pop(), ()):
            ours[seen.pid] = seen
            parents.append(seen.pid)
    return {pid: seen for pid, seen in ours.items() if not seen.is_zombie}


def look(pid: int) -> Seen | None:
    """One process; None if there is none."""
    try:
        stat = _read(f"/proc/{pid}/stat", 4096)
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()
    try:
        environment = _read(f"/proc/{pid}/environ", ENVIRONMENT_BYTES_MAX)
    except OSError:  # it does not show its own
        environment = b""
    marked = _MARKED.search(environment)
    return Seen(
        pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] == b"Z", int(marked[1]) if marked else None
    )


def owners(seen: Mapping[int, Seen], sessions: Mapping[int, int], begun: Collection[int]) -> dict[int, int | None]:
    """The call of each process, where it has one. ``sessions`` has the calls by the sessions of their commands,
    ``begun`` all calls that there are."""
    known: dict[int, int | None] = {}
    for pid in seen:
        line: list[int] = []
        while pid in seen and pid not in known and pid not in line:
            line.append(pid)
            if (call := _own(seen[pid], sessions, begun)) is not None:
                known[pid] = call
                break
            pid = seen[pid].parent
        for member in line:
            known.setdefault(member, known.get(pid))
    return known


def members(call: int, sessions: Mapping[int, int], begun: Collection[int], since_ticks: int) -> list[int]:
    """The processes that end with the call: its own, and those of nobody that are younger than it."""
    seen = census()
    return [
        pid
        for pid, owner in owners(seen, sessions, begun).items()
        if owner == call or (owner is None and seen[pid].started_ticks >= since_ticks)
    ]


def _own(seen: Seen, sessions: Mapping[int, int], begun: Collection[int]) -> int | None:
    return seen.mark if seen.mark in begun else sessions.get(seen.session)


def _read(path: str, limit: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)
