"""The Prometheus registry of a replica, fed by what the loops report through ``telemetry``.

``Metrics`` is a listener: ``with Metrics().listening():`` counts until the block ends. Each event that matters has one
small method among the ``rules`` of its subject; an event without a rule is not counted, and a rule never fails for a
missing field, because a listener runs inside the task that reports.

Labels are few and bounded: statuses, kinds and routes, never a user, a chat or a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from chatcluster import __version__, telemetry
from chatcluster.catalogue import CRASHES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Fields = dict[str, object]
Rule = Callable[[Fields], None]

FAST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OVERTAKEN = ("cancelled", "Moved", "Fenced")
"""Errors that end a stage and are no failure: the chat has moved on."""
STAGE_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
TURN_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class Instruments:
    """Makes counters and the like in one registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(f"chatcluster_{name}", help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(f"chatcluster_{name}", help_text, labels, registry=self.registry)

    def histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"chatcluster_{name}", help_text, labels, buckets=buckets, registry=self.registry)


class Serving:
    """Requests and event streams."""

    def __init__(self, make: Instruments) -> None:
        self._requests = make.counter("http_requests_total", "HTTP requests answered", "method", "route", "status")
        self._request_seconds = make.histogram("http_request_seconds", "Time to answer", FAST_BUCKETS, "route")
        self._stalled = make.counter("http_readers_stalled_total", "Connections cut because the reader took nothing")
        self._dropped = make.counter(
            "http_connections_dropped_total", "Connections closed because there were too many", "state"
        )
        self._subscribers = make.gauge("stream_subscribers", "Open event streams", "protocol")
        self._subscribers.labels("sse")
        self._resumes = make.counter("stream_opens_total", "Event streams opened", "protocol", "outcome")
        self._cuts = make.counter("stream_cuts_total", "Event streams that ended abruptly", "protocol", "reason")
        self.rules: dict[str, Rule] = {
            "http.request": self._http_request,
            "http.reader_stalled": self._reader_stalled,
            "http.connection_dropped": self._connection_dropped,
            "stream.opened": self._stream_opened,
            "stream.closed": self._stream_closed,
        }

    def _http_request(self, fields: Fields) -> None:
        route = str(fields.get("route"))
        self._requests.labels(str(fields.get("method")), route, str(fields.get("status"))).inc()
        if not fields.get("streamed"):
            self._request_seconds.labels(route).observe(_seconds(fields))

    def _reader_stalled(self, _: Fields) -> None:
        self._stalled.inc()

    def _connection_dropped(self, fields: Fields) -> None:
        self._dropped.labels(str(fields.get("state"))).inc()

    def _stream_opened(self, fields: Fields) -> None:
        self._subscribers.labels("sse").inc()
        self._resumes.labels("sse", "resumed" if fields.get("resumed") else "started").inc()

    def _stream_closed(self, fields: Fields) -> None:
        self._subscribers.labels("sse").dec()
        if fields.get("reason") != "disconnected":
            self._cuts.labels("sse", str(fields.get("reason"))).inc()


class Working:
    """Chats and the model."""

    def __init__(self, make: Instruments) -> None:
        self._runs = make.counter("runs_total", "Tenures that ended on this replica", "status")
        self._run_seconds = make.histogram("run_duration_seconds", "Length of a tenure", TURN_BUCKETS)
        self._claims = make.counter("claims_total", "Chats that this replica took")
        self._upstream = make.counter("upstream_requests_total", "Attempts at a model response", "outcome")
        self._upstream_seconds = make.histogram("upstream_request_seconds", "Length of an attempt", TURN_BUCKETS)
        self._upstream_failures = make.counter("upstream_failures_total", "Attempts that failed", "kind", "retryable")
        self._fallbacks = make.counter("fallbacks_total", "Attempts that failed and made way for another model", "kind")
        self._stages = make.histogram("stage_seconds", "Stages of turns", STAGE_BUCKETS, "stage", "outcome")
        self.rules: dict[str, Rule] = {
            "stage.ended": self._stage,
            "tool.called": self._tool_called,
            "chat.claimed": self._claimed,
            "chat.tenure": self._tenure,
            "chat.attempt": self._attempt,
            "chat.attempt_failed": self._attempt_failed,
        }

    def _stage(self, fields: Fields) -> None:
        error = fields.get("error")
        outcome = "completed" if error is None else "interrupted" if error in OVERTAKEN else "error"
        self._stages.labels(str(fields.get("stage")), outcome).observe(_seconds(fields))

    def _tool_called(self, fields: Fields) -> None:
        outcome = {"ok": "completed", "error": "error"}.get(str(fields.get("outcome")), "interrupted")
        self._stages.labels("tool_call", outcome).observe(_seconds({"duration_seconds": fields.get("seconds")}))

    def _tenure(self, fields: Fields) -> None:
        self._runs.labels(str(fields.get("status", fields.get("error")))).inc()
        self._run_seconds.observe(_seconds(fields))

    def _claimed(self, _: Fields) -> None:
        self._claims.inc()

    def _attempt(self, fields: Fields) -> None:
        self._upstream.labels(str(fields.get("error", "ok"))).inc()
        self._upstream_seconds.observe(_seconds(fields))

    def _attempt_failed(self, fields: Fields) -> None:
        self._upstream_failures.labels(str(fields.get("kind")), str(bool(fields.get("retryable"))).lower()).inc()
        if fields.get("successor"):
            self._fallbacks.labels(str(fields.get("kind"))).inc()


class Belonging:
    """The cluster and its database, and how this process does."""

    def __init__(self, make: Instruments) -> None:
        self._renewals = make.counter("lease_renewals_total", "Heartbeats written")
        self._leases_lost = make.counter("leases_lost_total", "Times this process lost its lease")
        self._takeovers = make.counter("takeovers_total", "Dead replicas that this one buried", "proof")
        self._transactions = make.histogram(
            "store_transaction_seconds", "Postgres transactions", FAST_BUCKETS, "name", "outcome"
        )
        self._missing = make.gauge("database_connections_missing", "How many fewer than are set, as Postgres has few")
        self._full = make.counter("database_full_total", "Times that Postgres had no connection left")
        self._purged = make.counter("purged_rows_total", "Rows that were deleted for good", "kind")
        self._spans = make.counter("spans_total", "Spans for OpenTelemetry's endpoint", "outcome")
        self._slow_steps = make.counter("loop_slow_steps_total", "Steps of the event loop above 50 ms of CPU time")
        self.rules: dict[str, Rule] = {
            "lease.renewed": self._lease_renewed,
            "lease.lost": self._lease_lost,
            "replica.buried": self._buried,
            "postgres.enough": self._shared,
            "postgres.full": self._no_connection,
            "postgres.short": self._shared,
            "purge.deleted": self._deleted,
            "loop.slow_step": self._slow_step,
            "spans.dropped": self._spans_dropped,
            "spans.exported": self._spans_exported,
            "store.transaction": self._transaction,
        }

    def _lease_renewed(self, _: Fields) -> None:
        self._renewals.inc()

    def _lease_lost(self, _: Fields) -> None:
        self._leases_lost.inc()

    def _buried(self, fields: Fields) -> None:
        self._takeovers.labels(str(fields.get("proof", "unknown"))).inc()

    def _shared(self, fields: Fields) -> None:
        self._missing.set(_count(fields, "wanted") - _count(fields, "connections"))

    def _no_connection(self, _: Fields) -> None:
        self._full.inc()

    def _deleted(self, fields: Fields) -> None:
        self._purged.labels(str(fields.get("kind"))).inc(_count(fields, "rows"))

    def _spans_dropped(self, fields: Fields) -> None:
        self._spans.labels("dropped").inc(_count(fields))

    def _spans_exported(self, fields: Fields) -> None:
        self._spans.labels("exported").inc(_count(fields))

    def _slow_step(self, _: Fields) -> None:
        self._slow_steps.inc()

    def _transaction(self, fields: Fields) -> None:
        outcome = str(fields.get("error", "ok"))
        self._transactions.labels(str(fields.get("name", "other")), outcome).observe(_seconds(fields))


class _Alone(Collector):
    """One metric, as a collector of its own."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


class Metrics:
    def __init__(self) -> None:
        self._make = make = Instruments()
        self.registry = make.registry
        ProcessCollector(registry=make.registry)
        PlatformCollector(registry=make.registry)
        Info("chatcluster_build", "The version that runs", registry=make.registry).info({"version": __version__})
        make.gauge("telemetry_failures", "Lines of log, or counts, that were lost").set_function(telemetry.failures)
        self._crashes = make.counter("crashes_total", "Errors that nobody foresaw", "where")
        self._slots = make.gauge("worker_slots", "Places for chats", "state")
        self._rules = {**Serving(make).rules, **Working(make).rules, **Belonging(make).rules}

    @contextmanager
    def listening(self) -> Iterator[Metrics]:
        """Count what is reported while the block runs."""
        telemetry.subscribe(self.listen)
        try:
            yield self
        finally:
            telemetry.unsubscribe(self.listen)

    def watch_slots(self, *, used: Callable[[], int], total: int) -> None:
        """Show the replica's places for chats as they are at each scrape."""
        self._slots.labels("used").set_function(used)
        self._slots.labels("available").set_function(lambda: max(0, total - used()))

    def watch_loop(self, *, longest_seconds: Callable[[], float], memory_bytes_max: Callable[[], int]) -> None:
        """Show what was measured of the event loop, and of the process."""
        longest_step = self._make.gauge("loop_longest_step_seconds", "CPU time of the event loop's longest step")
        longest_step.set_function(longest_seconds)
        memory = self._make.gauge("memory_max_bytes", "The most memory that the process has had")
        memory.set_function(memory_bytes_max)

    def render(self) -> bytes:
        """The registry in Prometheus's text format."""
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        """The same, metric by metric: all of them take as long as hundreds of words of answers."""
        for metric in self.registry.collect():
            yield generate_latest(_Alone(metric))

    def listen(self, name: str, fields: Fields) -> None:
        """Count one event."""
        if name in CRASHES:
            self._crashes.labels(name.partition(".")[0]).inc()
        rule = self._rules.get(name)
        if rule is not None:
            rule(fields)


class HostMetrics:
    """The metrics of a workspace host, in the same form."""

    def __init__(self, running: Callable[[], int], places: int) -> None:
        make = Instruments()
        self._registry = make.registry
        ProcessCollector(registry=make.registry)
        Info("chatcluster_build", "The version that runs", registry=make.registry).info({"version": __version__})
        make.gauge("workspaces_running", "Workspaces that run on this host").set_function(running)
        make.gauge("workspaces_places", "Workspaces that may run on this host").set(places)
        self._crashes = make.counter("crashes_total", "Errors that nobody foresaw", "where")
        self._states = make.counter("workspace_states_total", "States that workspaces came to", "state")
        self._cancelled = make.counter("workspace_calls_cancelled_total", "Calls that nobody waited for any more")
        self._start_seconds = make.histogram("workspace_start_seconds", "Until the agent answers", STAGE_BUCKETS)

    @contextmanager
    def listening(self) -> Iterator[HostMetrics]:
        """Count what is reported while the block runs."""
        telemetry.subscribe(self.listen)
        try:
            yield self
        finally:
            telemetry.unsubscribe(self.listen)

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def listen(self, name: str, fields: Fields) -> None:
        match name:
            case "workspace.state":
                self._states.labels(str(fields.get("state"))).inc()
            case "workspace.started":
                self._start_seconds.observe(_seconds(fields))
            case "workspace.call_cancelled":
                self._cancelled.inc()
            case _ if name in CRASHES:
                self._crashes.labels(name.partition(".")[0]).inc()


def _count(fields: Fields, name: str = "count") -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else 0


def _seconds(fields: Fields) -> float:
    value = fields.get("duration_seconds", 0.0)
    return value if isinstance(value, float | int) else 0.0
