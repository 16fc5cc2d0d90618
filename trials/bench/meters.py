"""What something cost: the state of all processes and servers at two moments, and the difference.

CPU and memory are the kernel's counts (``/proc``); transactions are the replicas' own counts, by name
(Postgres's statistics come up to ten seconds late); Redis commands are the server's.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from bench.cluster import Cluster, Replica
from bench.generator import Load

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SCRAPE_SECONDS_MAX = 30.0
WATCH_SECONDS = 0.1
OWN_TRANSACTIONS = ("apply", "apply_seen", "commit", "commit_known")
"""A turn itself makes these, besides its claim: for the message, each step, the answer. All others are made by readers
and housekeeping, and so are claims that look and find nothing."""
_TRANSACTIONS = "chatcluster_store_transaction_seconds_count{"
_LEASES_LOST = "chatcluster_leases_lost_total "
_CLAIMED = "chatcluster_claims_total "


class Reading:
    """Everything that is counted, at one moment."""

    def __init__(self) -> None:
        self.when = time.monotonic()
        self.cpu_seconds: dict[str, float] = {}
        self.machine_cpu_seconds = machine_cpu_seconds()
        self.transactions: Counter[str] = Counter()
        self.claimed = 0.0
        self.leases_lost = 0.0
        self.redis_commands = 0


class Costs:
    """The difference of two readings; ``figures`` gives it per unit of work."""

    def __init__(self, before: Reading, after: Reading, peak_mb: float) -> None:
        self.seconds = after.when - before.when
        self.cpu_seconds = {who: after.cpu_seconds[who] - before.cpu_seconds.get(who, 0) for who in after.cpu_seconds}
        self.machine_cpu_seconds = after.machine_cpu_seconds - before.machine_cpu_seconds
        self.transactions = after.transactions - before.transactions
        self.claimed = after.claimed - before.claimed
        self.leases_lost = after.leases_lost - before.leases_lost
        self.redis_commands = after.redis_commands - before.redis_commands
        self.peak_mb = peak_mb

    def figures(self, units: float) -> dict[str, float]:
        figures = {
            "load_share": self.cpu_seconds["load"] / self.seconds,
            "others_share": max(0.0, self.machine_cpu_seconds - sum(self.cpu_seconds.values())) / self.seconds,
            "peak_mb": self.peak_mb,
            "leases_lost": self.leases_lost,
        }
        if units:
            figures |= {
                "transactions": self.transactions.total() / units,
                "redis_commands": self.redis_commands / units,
                **{
                    f"{who}_cpu_s": self.cpu_seconds[who] * 1000 / units
                    for who in ("replica", "postgres", "redis", "model")
                    if who in self.cpu_seconds
                },
            }
        return figures

    def own_transactions(self, units: float) -> dict[str, float]:
        """The transactions that a turn needs of itself, on the average."""
        claims = min(self.claimed, self.transactions["claim"])  # several chats may be claimed in one
        own = claims + sum(self.transactions[name] for name in OWN_TRANSACTIONS)
        return {"own_transactions": own / units} if units else {}


class Meters:
    """Reads a cluster and its load."""

    def __init__(self, cluster: Cluster, load: Load) -> None:
        self._cluster = cluster
        self._load = load
        self._first: Reading | None = None
        self.heartbeat_late_ms = 0.0

    async def start(self, _: Any = None) -> None:
        """From here on it counts."""
        for replica in self._cluster.replicas:
            reset_peak(replica.pid)
        self._first = await self._read()

    async def stop(self) -> Costs:
        assert self._first is not None, "the load never said that it started"
        last = await self._read()
        return Costs(self._first, last, max(peak_mb(replica.pid) for replica in self._cluster.replicas))

    async def leases_lost(self) -> float:
        """By the replicas that live, since each of them was started."""
        return (await self._read()).leases_lost

    @asynccontextmanager
    async def watching_heartbeats(self) -> AsyncIterator[None]:
        """Look again and again how old the replicas' heartbeats are."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            yield
            nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        query = "SELECT worker_id::text, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8 FROM replicas"
        due_seconds = self._cluster.heartbeat_seconds
        while True:
            living = {replica.worker_id for replica in self._cluster.replicas}
            for worker_id, age_seconds in await self._cluster.servers.sql(query):
                if worker_id in living:
                    self.heartbeat_late_ms = max(self.heartbeat_late_ms, (age_seconds - due_seconds) * 1000)
            await trio.sleep(WATCH_SECONDS)

    async def _read(self) -> Reading:
        reading = Reading()
        async with trio.open_nursery() as nursery:
            for replica in self._cluster.replicas:
                nursery.start_soon(_scrape, replica, reading)
        [info] = await self._cluster.servers.cache.exchange([("INFO", "stats")])
        reading.redis_commands = _info(info, "total_commands_processed")
        reading.cpu_seconds = {
            "replica": sum(cpu_seconds(replica.pid) for replica in self._cluster.replicas),
            "postgres": sum(map(cpu_seconds, family(self._cluster.servers.postgres.pid))),
            "redis": cpu_seconds(self._cluster.servers.redis.pid),
            "load": cpu_seconds(self._load.pid),
        }
        if self._cluster.model_pid is not None:
            reading.cpu_seconds["model"] = cpu_seconds(self._cluster.model_pid)
        reading.machine_cpu_seconds = machine_cpu_seconds()
        reading.when = time.monotonic()
        return reading


async def _scrape(replica: Replica, reading: Reading) -> None:
    def fetch() -> str:
        with urllib.request.urlopen(f"http://{replica.address}/metrics", timeout=SCRAPE_SECONDS_MAX) as answer:
            text: str = answer.read().decode()
            return text

    for line in (await trio.to_thread.run_sync(fetch)).splitlines():
        if line.startswith(_TRANSACTIONS):
            labels, _, count = line.rpartition(" ")
            reading.transactions[labels.partition('name="')[2].partition('"')[0]] += int(float(count))
        elif line.startswith(_CLAIMED):
            reading.claimed += float(line.rpartition(" ")[2])
        elif line.startswith(_LEASES_LOST):
            reading.leases_lost += float(line.rpartition(" ")[2])


def _info(reply: object, name: str) -> int:
    assert isinstance(reply, bytes | str)
    text = reply.decode() if isinstance(reply, bytes) else reply
    return int(text.partition(f"{name}:")[2].partition("\r")[0])


def cpu_seconds(pid: int | None) -> float:
    """User and system time of a process and of its children that have ended; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_SECOND


def machine_cpu_seconds() -> float:
    """What all processes of this machine have taken, ours and others'."""
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / TICKS_PER_SECOND


def family(pid: int | None) -> Iterable[int]:
    """A process and its children."""
    if pid is None:
        return
    yield pid
    with suppress(OSError):  # it is gone
        yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def descendants(pid: int) -> list[int]:
    """The processes that it began, those that they began, and so on."""
    found = [child for child in family(pid) if child != pid]
    return [*found, *(below for child in found for below in descendants(child))]


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def resident_kb(pid: int) -> int:
    return _status_kb(pid, "VmRSS:")


def share_kb(pid: int) -> int:
    """Memory of its own, and its part of what it shares with others; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0])
    except (OSError, IndexError):
        return 0


def peak_mb(pid: int) -> float:
    """The most memory since the peak was reset."""
    return _status_kb(pid, "VmHWM:") / 1024


def _status_kb(pid: int, name: str) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition(name)[2].split()[0])
