"""What the chaos run takes from its cluster's logs: who died that nobody killed, who was buried alive."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from chaos.journal import Journal, false_takeovers
from checker import Fault, Kind

KILLED = "replica-1 was killed by SIGKILL; starting it again in 0.5 s\n"
ENDED = "replica-1 ended with exit code 0; starting it again in 0.5 s\n"
CRASHED = "replica-1 ended with exit code 1; starting it again in 0.5 s\n"
EPOCH = "1970-01-01T00:00:{seconds:02}Z"


@pytest.fixture
def supervisor(tmp_path: Path) -> Path:
    return tmp_path / "up.log"


@pytest.fixture
def journal(tmp_path: Path, supervisor: Path) -> Journal:
    (tmp_path / "replica-1.log").write_text("Traceback: its last words\n")
    return Journal(tmp_path, supervisor)


def logged(directory: Path, seconds: int, event: str, **fields: object) -> None:
    line = {"event": event, "ts": EPOCH.format(seconds=seconds), **fields}
    with open(directory / "replica-2.log", "ab") as log:
        log.write(msgspec.json.encode(line) + b"\n")


@pytest.mark.parametrize(("fault", "line"), [("kill", KILLED), ("term", ENDED)])
def test_a_death_that_was_inflicted_is_none_of_its_own(
    journal: Journal, supervisor: Path, fault: str, line: str
) -> None:
    journal.expect("replica-1", fault)
    supervisor.write_text(line)
    assert list(journal.crashes()) == []


@pytest.mark.parametrize(
    ("fault", "line"), [("stop", KILLED), ("kill", CRASHED), ("term", CRASHED), ("stop", CRASHED), ("kill", KILLED * 2)]
)
def test_p4_a_death_that_nobody_inflicted_is_a_violation(
    journal: Journal, supervisor: Path, fault: str, line: str
) -> None:
    journal.expect("replica-1", fault)
    supervisor.write_text(line)
    (crash,) = journal.crashes()
    assert crash.kind is Kind.CRASH
    assert "its last words" in crash.detail


def test_p4_so_is_a_loop_that_broke(tmp_path: Path, journal: Journal) -> None:
    logged(tmp_path, 1, "runner.crashed", error="KeyError")
    (crash,) = journal.crashes()
    assert "replica-2" in crash.detail
    assert "KeyError" in crash.detail


def test_each_crash_is_told_once_and_in_whole_lines(tmp_path: Path, journal: Journal, supervisor: Path) -> None:
    supervisor.write_text(CRASHED + CRASHED[:30])
    assert len(list(journal.crashes())) == 1
    supervisor.write_text(CRASHED * 2)
    assert len(list(journal.crashes())) == 1
    assert list(journal.crashes()) == []


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        ("replica.buried", {"proof": "session"}),
        ("replica.buried", {"proof": "lease"}),
        ("lease.lost", {"reason": "not renewed in time"}),
    ],
)
def test_p4_a_replica_that_lives_and_is_taken_for_dead_is_a_violation(
    tmp_path: Path, event: str, fields: dict[str, str]
) -> None:
    logged(tmp_path, 5, event, worker_id="a", **fields)
    other = Fault(kind="kill", time=4.0, until=4.0, worker_id="b")
    (violation,) = false_takeovers(tmp_path, [other], clock_offset=0.0)
    assert (violation.kind, violation.time) == (Kind.FALSE_TAKEOVER, 5.0)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="stop", time=1.0, until=11.0, worker_id="a"),
        Fault(kind="postgres-crash", time=1.0, until=2.0),
    ],
)
def test_but_not_one_that_was_hurt_or_while_nobody_could_know(tmp_path: Path, fault: Fault) -> None:
    logged(tmp_path, 5, "replica.buried", worker_id="a", proof="lease")
    assert list(false_takeovers(tmp_path, [fault], clock_offset=0.0)) == []


def test_who_was_hurt_is_known_by_the_log_as_the_run_may_not_have_heard_that_it_began_anew(tmp_path: Path) -> None:
    for seconds, worker_id in ((1, "a"), (3, "b"), (6, "c")):
        logged(tmp_path, seconds, "replica.started", worker_id=worker_id, name="replica-2")
    logged(tmp_path, 2, "lease.lost", worker_id="a", reason="not renewed in time")
    logged(tmp_path, 5, "replica.buried", worker_id="b", proof="session")
    fault = Fault(kind="kill", time=4.0, until=4.0, worker_id="a", replica="replica-2")
    (violation,) = false_takeovers(tmp_path, [fault], clock_offset=0.0)
    assert violation.time == 2.0, "nobody had hurt it when it lost its lease"


def test_who_has_seen_a_process_die_or_leaves_takes_nobody_for_dead(tmp_path: Path) -> None:
    logged(tmp_path, 5, "replica.buried", worker_id="a", proof="told")
    logged(tmp_path, 5, "lease.lost", worker_id="b", reason="the row is gone")
    assert list(false_takeovers(tmp_path, [], clock_offset=0.0)) == []
