"""Whether operators are told the truth: what the cluster's page shows of a run, held against what the run knows.

* **The log of takeovers** (``/admin/takeovers``) has each chat that a dead replica left behind, as often as the
  replicas' own logs say that such were freed; and, where only replicas were hurt, none of a replica that did not die. A
  chat that a reader saw taken over after a kill has its row there, with its gap: no longer than that reader waited,
  which ends with the first part it sees.
* **The charts** (``/admin/series``) have as many takeovers as the log, which has what a drain handed over besides.
* **The metrics** of each replica count the burials that stand in its log since it was started.

Not judged: runs with a failover, which takes back what was logged, or beside another version, which may tell less;
gaps, where the database's clock steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from checker import Fault, Kind, Violation

from chaos.api import Api, Json
from chaos.faults import FAILOVER
from chaos.fleet import Replica
from chaos.journal import ENDING, entries
from chaos.recovery import Watch
from chaos.summary import spread

PAGE = 200
SLACK_SECONDS = 0.25
"""The clocks of two machines may differ by this; and a reader's time begins when the signal was sent."""
BURIED, STARTED = "replica.buried", "replica.started"
METRIC = "chatcluster_takeovers_total{"
READ_SECONDS_MAX = 5.0


class Shown(NamedTuple):
    """What operators see in the end: the ``log`` of takeovers, the sum of the ``chart``, and of each replica by its
    name how many burials it ``counted``."""

    log: Sequence[Json]
    chart: int
    counted: dict[str, int]


async def read(api: Api, replicas: Iterable[Replica]) -> Shown:
    """Raises ``RuntimeError`` when the cluster does not answer."""
    log: list[Json] = []
    more = True
    while more:
        page = await api.read("/admin/takeovers", limit=PAGE, **({"before": log[-1]["id"]} if log else {}))
        log, more = log + page["takeovers"], page["has_more"]
    series = await api.read("/admin/series", span="1d")
    counted = {replica.name: await _counted(replica) for replica in replicas}
    return Shown(log, sum(point["takeovers"] for point in series["points"]), counted)


async def _counted(replica: Replica) -> int:
    async with httpx.AsyncClient(timeout=READ_SECONDS_MAX) as http:
        try:
            answer = await http.get(f"{replica.url}/metrics")
        except httpx.HTTPError as error:
            raise RuntimeError(f"{replica.name} does not tell its metrics: {error!r}") from None
    return sum(round(float(line.rsplit(" ", 1)[1])) for line in answer.text.splitlines() if METRIC in line)


def untold(shown: Shown, logs: Path, faults: Sequence[Fault], seen: Iterable[Watch]) -> Iterator[Violation]:
    """What operators are told wrongly, or not at all. ``seen`` are readers that were watched."""
    if any(fault.kind == FAILOVER for fault in faults):
        return
    deaths = [row for row in shown.log if row["cause"] == "takeover"]
    yield from _of_log(deaths, logs, faults)
    yield from _of_readers(deaths, seen, times=not any(fault.kind == "clock" for fault in faults))
    if shown.chart != len(deaths):
        yield _wrong("", f"the charts have {shown.chart} takeovers, and the log has {len(deaths)}")
    for name, counted in shown.counted.items():
        since, ever = _burials(logs / f"{name}.log")
        if not since <= counted <= ever:
            yield _wrong("", f"the metrics of {name} have {counted} burials, and its log has {since} since it started")


def _of_log(deaths: Iterable[Json], logs: Path, faults: Sequence[Fault]) -> Iterator[Violation]:
    rows = Counter(row["from_worker"] for row in deaths)
    freed: dict[str, int] = {}
    for entry in entries(logs, f'"{BURIED}"'.encode()):
        worker_id = entry["worker_id"]
        freed[worker_id] = max(entry["chats"], freed.get(worker_id, 0))
    for worker_id, chats in freed.items():
        if rows[worker_id] < chats:
            yield _wrong("", f"{chats} chats of {worker_id} were freed, and the log has {rows[worker_id]} of them")
    if not all(fault.kind in ENDING for fault in faults):
        return
    died = freed.keys() | {fault.worker_id for fault in faults if fault.kind in ENDING}
    for worker_id in rows.keys() - died:
        yield _wrong("", f"the log has takeovers from {worker_id}, and nobody saw it die")


def _of_readers(deaths: Iterable[Json], seen: Iterable[Watch], *, times: bool) -> Iterator[Violation]:
    rows: dict[tuple[str, str], Json] = {(row["chat_id"], row["from_worker"]): row for row in deaths}
    for watch in seen:
        if watch.fault.kind != "kill" or watch.takeover_seconds is None:
            continue
        chat, worker_id = watch.subscriber.chat, watch.fault.worker_id
        gap_ms = rows.get((chat, worker_id), {}).get("gap_ms")
        if gap_ms is None:
            yield _wrong(chat, f"a reader saw it taken over from {worker_id}, and the log has no such gap")
        elif times and gap_ms / 1000 > watch.takeover_seconds + SLACK_SECONDS:
            yield _wrong(chat, f"the log has a gap of {gap_ms} ms, and a reader saw {watch.takeover_seconds:.3f} s")


def _burials(log: Path) -> tuple[int, int]:
    """Since the replica was started last, and ever: one that was thought dead begins anew, and counts on."""
    since = ever = 0
    for line in log.read_bytes().splitlines() if log.exists() else ():
        if f'"{STARTED}"'.encode() in line:
            since = 0
        elif f'"{BURIED}"'.encode() in line:
            since, ever = since + 1, ever + 1
    return since, ever


def gaps(shown: Shown) -> dict[str, Any]:
    """For the summary: how many takeovers there are in the log, and how long their chats were without an owner."""
    return spread([row["gap_ms"] / 1000 for row in shown.log if row["gap_ms"] is not None])


def _wrong(chat: str, detail: str) -> Violation:
    return Violation(Kind.UNTOLD, chat, detail)
