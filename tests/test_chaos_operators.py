"""What a chaos run holds against the page of its cluster: the log of takeovers, the charts, the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos.operators import Shown, untold
from chaos.recovery import Watch
from checker import Checker, Fault, Kind

KILL = Fault(kind="kill", time=1.0, until=1.0, worker_id="dead")
ROW = {"id": 1, "chat_id": "c", "cause": "takeover", "from_worker": "dead", "gap_ms": 40}
DRAINED = {"id": 2, "chat_id": "d", "cause": "drain", "from_worker": "other", "gap_ms": 5}


def seen(seconds: float | None, fault: Fault = KILL) -> Watch:
    """A reader of the chat, for which that took so long."""
    watch = Watch(fault, Checker().subscriber("c", "reader"), elsewhere=True)
    watch.takeover_seconds = seconds
    return watch


def logged(logs: Path, *events: str) -> Path:
    """By the replica that buries and was started before."""
    lines = ({"event": event, "worker_id": "dead", "chats": 1} for event in events)
    (logs / "replica-1.log").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return logs


def told(
    logs: Path, log: list[dict[str, Any]], *, chart: int | None = None, counted: int = 1, **more: Any
) -> list[str]:
    logged(logs, *more.get("events", ("replica.started", "replica.buried")))
    taken_over = sum(row["cause"] == "takeover" for row in log)
    shown = Shown(log, taken_over if chart is None else chart, {"replica-1": counted})
    found = list(untold(shown, logs, more.get("faults", [KILL]), more.get("seen", [seen(0.05)])))
    assert {violation.kind for violation in found} <= {Kind.UNTOLD}
    return [violation.detail for violation in found]


def test_what_happened_and_is_told_is_right(tmp_path: Path) -> None:
    assert told(tmp_path, [DRAINED, ROW]) == []


@pytest.mark.parametrize(
    ("log", "more", "words"),
    [
        ([], {"counted": 1}, ["1 chats of dead were freed, and the log has 0", "the log has no such gap"]),
        ([ROW | {"gap_ms": None}], {}, ["the log has no such gap"]),
        ([ROW | {"gap_ms": 700}], {}, ["a gap of 700 ms, and a reader saw 0.050 s"]),
        ([ROW, ROW | {"from_worker": "alive"}], {}, ["takeovers from alive, and nobody saw it die"]),
        ([ROW], {"chart": 3}, ["the charts have 3 takeovers, and the log has 1"]),
        ([ROW], {"counted": 0}, ["have 0 burials, and its log has 1 since it started"]),
        ([ROW], {"counted": 2}, ["have 2 burials"]),
    ],
    ids=["not logged", "no gap", "too long", "nobody died", "chart", "too few counted", "too many counted"],
)
def test_what_is_told_wrongly_is_found(
    tmp_path: Path, log: list[dict[str, Any]], more: dict[str, Any], words: list[str]
) -> None:
    found = told(tmp_path, log, **more)
    assert len(found) == len(words)
    assert all(word in detail for word, detail in zip(words, found, strict=True))


def test_a_replica_that_was_started_anew_counts_from_then_on(tmp_path: Path) -> None:
    events = ("replica.started", "replica.buried", "replica.started")
    assert told(tmp_path, [ROW], counted=0, events=events) == []


def test_a_kill_before_which_nothing_was_said_took_nothing_over(tmp_path: Path) -> None:
    assert told(tmp_path, [], counted=0, seen=[seen(None)], events=("replica.started",)) == []


def test_gaps_are_not_judged_where_the_databases_clock_steps_and_nothing_is_behind_a_failover(tmp_path: Path) -> None:
    steps, failover = (Fault(kind=kind, time=2.0, until=3.0) for kind in ("clock", "failover"))
    assert told(tmp_path, [ROW | {"gap_ms": 9000}], faults=[KILL, steps]) == []
    assert told(tmp_path, [], faults=[KILL, failover]) == []
