"""The Prometheus registry: what the loops report, counted, with few labels."""

from __future__ import annotations

import pytest

from chatcluster import __version__, telemetry
from chatcluster.errors import Moved
from chatcluster.metrics import Metrics


def sample(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"chatcluster_{name}", labels)


def test_events_are_counted_while_listening_and_not_after() -> None:
    metrics = Metrics()
    with metrics.listening():
        telemetry.event("lease.renewed", duration_seconds=0.01)
        telemetry.event("replica.buried", worker_id="x", proof="session", chats=3)
        telemetry.event("chat.claimed", chat_id="x", epoch=1)
        with telemetry.span("store.transaction", name="claim"):
            pass
        with pytest.raises(KeyError), telemetry.span("chat.attempt", chat_id="x", attempt=1):
            raise KeyError
    telemetry.event("lease.renewed")
    assert sample(metrics, "lease_renewals_total") == 1
    assert sample(metrics, "takeovers_total", proof="session") == 1
    assert sample(metrics, "claims_total") == 1
    assert sample(metrics, "store_transaction_seconds_count", name="claim", outcome="ok") == 1
    assert sample(metrics, "upstream_requests_total", outcome="KeyError") == 1


def test_a_missing_field_or_an_unknown_event_never_hurts_the_task_that_reports() -> None:
    metrics = Metrics()
    with metrics.listening():
        for name in ("http.request", "chat.tenure", "chat.attempt_failed", "stream.opened", "stream.closed", "no.such"):
            telemetry.event(name)
    assert metrics.render().startswith(b"# HELP")


def test_p10_the_registry_is_written_metric_by_metric() -> None:
    """So that who reads it keeps the answers of nobody waiting for all of it."""
    metrics = Metrics()
    metrics.watch_slots(used=lambda: 3, total=8)
    pieces = list(metrics.pieces())
    assert [piece.count(b"# TYPE chatcluster_worker_slots ") for piece in pieces].count(1) == 1
    assert all(len(piece) < 20_000 for piece in pieces)
    names = [line.split()[2] for line in metrics.render().splitlines() if line.startswith(b"# TYPE")]
    assert len(pieces) > 30
    assert len(names) == len(set(names))


def test_slots_and_the_version_are_shown() -> None:
    metrics = Metrics()
    used = 3
    metrics.watch_slots(used=lambda: used, total=8)
    assert sample(metrics, "worker_slots", state="used") == 3
    assert sample(metrics, "worker_slots", state="available") == 5
    used = 9
    assert sample(metrics, "worker_slots", state="available") == 0
    assert sample(metrics, "build_info", version=__version__) == 1


def test_crashes_are_counted_by_where_they_happened() -> None:
    metrics = Metrics()
    with metrics.listening():
        telemetry.event("runner.crashed", chat_id="x", error="KeyError()")
    assert sample(metrics, "crashes_total", where="runner") == 1


def test_each_end_of_a_stage_is_counted_once_by_how_it_came() -> None:
    metrics = Metrics()
    with metrics.listening():
        telemetry.event("stage.ended", stage="queue_wait", duration_seconds=0.5)
        with telemetry.span("stage.ended", stage="commit"):
            pass
        with pytest.raises(Moved), telemetry.span("stage.ended", stage="commit"):
            raise Moved("the chat moved")
        with pytest.raises(ValueError, match="no"), telemetry.span("stage.ended", stage="commit"):
            raise ValueError("no")
        telemetry.event("tool.called", tool="look", outcome="ok", seconds=2.0)
    assert sample(metrics, "stage_seconds_sum", stage="queue_wait", outcome="completed") == 0.5
    assert sample(metrics, "stage_seconds_sum", stage="tool_call", outcome="completed") == 2.0
    for outcome in ("completed", "interrupted", "error"):
        assert sample(metrics, "stage_seconds_count", stage="commit", outcome=outcome) == 1
