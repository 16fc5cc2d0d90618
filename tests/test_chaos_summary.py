"""What the chaos run says in the end, and which fault tells a reader what."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from chaos.cluster import Cluster
from chaos.options import Options
from chaos.record import Record
from chaos.recovery import Watch
from chaos.run import Run
from chaos.summary import OF_TIME, summarize
from checker import Checker, Event, Fault, Kind, Recovery, Violation

CHAT = "chat"


def running(checker: Checker) -> Watch:
    """A reader in the middle of an answer of epoch 1, which is watched after Redis was emptied at 5.0."""
    subscriber = checker.subscriber(CHAT, "reader")
    subscriber.status, subscriber.epoch = "running", 1
    return Watch(Fault(kind="redis-crash", time=1.0, until=5.0), subscriber, elsewhere=True, since=5.0)


def test_p8_after_redis_was_lost_the_next_part_of_the_same_tenure_is_the_sign() -> None:
    watch = running(Checker())
    watch.see(Event(6.5, "replica-1", "2.1-9", "part", {}))
    assert watch.done.is_set()
    assert watch.result(bound_seconds=2.0, drain_seconds=5.0).sign_seconds == 1.5


def test_p8_that_the_chat_has_an_owner_is_none() -> None:
    watch = running(Checker())
    watch.see(Event(6.5, "replica-1", "2.1-9", "status", {"status": "running", "epoch": 1, "worker_id": "a"}))
    assert not watch.done.is_set()


async def test_the_summary_of_a_run_has_what_readers_got_in_the_place_of_a_stream(tmp_path: Path) -> None:
    with Record(tmp_path / "record.jsonl") as record:
        run = Run(Options(), Cluster("http://127.0.0.1:1", "token", None, None, None), record, lambda _: None)
        run._talks.figures.reader_errors["503"] += 2
        summary = msgspec.json.decode(msgspec.json.encode(run._summary(None)))
    assert summary["reader_errors"] == {"503": 2}


@pytest.mark.parametrize("kind", list(Kind))
def test_all_that_is_wrong_counts_but_what_is_late_only_where_it_is_judged(kind: Kind) -> None:
    checker = Checker()
    checker.report(Violation(kind, CHAT, "wrong"))
    verdict = checker.verdict()
    judged = summarize(verdict, (), (), Counter(), {})
    told = summarize(verdict, (), (), Counter(), {}, unjudged=OF_TIME)
    assert judged["violations"] == judged[kind] == told[kind] == 1
    assert told["violations"] == int(kind not in (Kind.LATE, Kind.UNSTOPPED, Kind.BYSTANDER))


def test_each_kind_of_fault_has_its_own_times() -> None:
    told = [
        Recovery(
            fault=Fault(kind=kind, time=0.0, until=1.0),
            chat=CHAT,
            reader="reader",
            bound_seconds=6.0,
            sign_seconds=seconds,
        )
        for kind, seconds in (("redis-flush", 0.25), ("postgres-crash", 2.0), ("postgres-crash", 4.0))
    ]
    counts = Counter({"redis-flush": 1, "postgres-crash": 1})
    faults = summarize(Checker().verdict(), told, told, counts, {"postgres-crash": [0.5]})["faults"]
    assert faults["redis-flush"]["told_seconds"]["max"] == 0.25
    assert faults["postgres-crash"]["told_seconds"]["p50"] == 2.0
    assert faults["postgres-crash"]["answered_seconds"]["max"] == 0.5
