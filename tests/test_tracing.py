"""Spans on their way to an endpoint: which one, in which bytes, and what becomes of them if it is not there."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
import trio.testing
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from span_receiver import Receiver, open_receiver

from chatcluster import __version__, telemetry
from chatcluster.errors import ConfigError
from chatcluster.metrics import Metrics
from chatcluster.tracing import export as export_module
from chatcluster.tracing import otlp
from chatcluster.tracing.environment import Endpoint, read_endpoint
from chatcluster.tracing.export import SpanExport, exporting
from chatcluster.tracing.spans import is_told, span_of, trace_id_of

CHAT = "0198c0de-0000-7000-8000-000000000001"
URL = "http://collector:4318"
CALL: dict[str, object] = {
    "chat_id": CHAT,
    "message_id": 7,
    "epoch": 3,
    "tool": "weather__look",
    "call_id": "call_1",
    "outcome": "ok",
    "seconds": 1.5,
}


# --- where to ---------------------------------------------------------------------------------


def test_without_an_endpoint_nothing_is_told() -> None:
    assert read_endpoint({}) is None
    assert read_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": " ", "OTEL_SERVICE_NAME": "chats"}) is None


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_what_is_set_for_all_programs_can_be_turned_off_for_this_one(off: dict[str, str]) -> None:
    assert read_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, **off}) is None


def test_the_endpoint_for_traces_wins_and_is_taken_as_it_stands() -> None:
    both = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other/here"}
    assert read_endpoint(both) == Endpoint("http://other/here")
    assert read_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{URL}/"}) == Endpoint(f"{URL}/v1/traces")


def test_all_that_the_variables_say() -> None:
    endpoint = read_endpoint(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": URL,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20abc%3D, x-scope = 7 ",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=ignored",
            "OTEL_SERVICE_NAME": "chats",
        }
    )
    assert endpoint == Endpoint(
        f"{URL}/v1/traces",
        {"authorization": "Basic abc=", "x-scope": "7"},
        2.5,
        gzip=True,
        share=0.25,
        resource={"deployment.environment.name": "test", "service.name": "chats"},
    )
    assert "abc" not in repr(endpoint)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=secret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "key=secret%0A"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
    ],
)
def test_what_cannot_work_is_an_error_that_names_the_variable_and_no_secret(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        read_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, name: value})
    assert "secret" not in str(caught.value)


def test_a_share_is_between_nothing_and_everything() -> None:
    sampled = {"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_SAMPLER": "traceidratio"}
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER_ARG"):
        read_endpoint({**sampled, "OTEL_TRACES_SAMPLER_ARG": "1.5"})
    traces = [trace_id_of({"chat_id": CHAT, "message_id": number}) for number in range(1000)]
    assert all(is_told(trace, 1.0) for trace in traces)
    assert not any(is_told(trace, 0.0) for trace in traces)
    assert 150 < sum(is_told(trace, 0.2) for trace in traces) < 250


# --- in which bytes ---------------------------------------------------------------------------


def test_opentelemetry_reads_what_we_write() -> None:
    span = span_of("tool.called", CALL, 5_000_000_000)
    attributes = {**span.attributes, "below zero": -7, "share": 0.5, "yes": True, "many": ("a", "ü"), "big": 2**62}
    body = otlp.request({"service.name": "chats"}, [otlp.encoded(span._replace(attributes=attributes, error="oops"))])
    (of_resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert [(pair.key, pair.value.string_value) for pair in of_resource.resource.attributes] == [
        ("service.name", "chats")
    ]
    (of_scope,) = of_resource.scope_spans
    assert (of_scope.scope.name, of_scope.scope.version) == ("chatcluster", __version__)
    (read,) = of_scope.spans
    assert (read.trace_id, read.span_id, read.parent_span_id) == (span.trace_id, span.span_id, span.parent_id)
    assert (read.name, read.kind, read.status.code, read.status.message) == ("execute_tool weather__look", 1, 2, "oops")
    assert (read.start_time_unix_nano, read.end_time_unix_nano) == (3_500_000_000, 5_000_000_000)
    values = {pair.key: pair.value for pair in read.attributes}
    assert values["gen_ai.tool.call.id"].string_value == "call_1"
    assert (values["below zero"].int_value, values["big"].int_value) == (-7, 2**62)
    assert (values["share"].double_value, values["yes"].bool_value) == (0.5, True)
    assert [value.string_value for value in values["many"].array_value.values] == ["a", "ü"]
    assert not read.FindInitializationErrors()


def test_what_a_model_or_a_provider_makes_long_is_cut() -> None:
    span = span_of("tool.called", CALL | {"tool": "x" * 9999, "call_id": "\udc80"}, 1)
    assert len(otlp.encoded(span)) < 2000


# --- on the way -------------------------------------------------------------------------------


def number_of_spans(body: bytes) -> int:
    (of_resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    return len(of_resource.scope_spans[0].spans)


class Collector:
    """An endpoint that takes what it is sent, refuses it, or is not there."""

    def __init__(self) -> None:
        self.status = 200
        self.tries = 0
        self.taken = 0
        self.largest = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.tries += 1
        if not self.status:
            raise httpx.ConnectError("nobody there")
        count = number_of_spans(request.content)
        self.largest = max(self.largest, count)
        self.taken += count if self.status == 200 else 0
        return httpx.Response(self.status)


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def counted() -> Iterator[Callable[[str], int]]:
    """What the metrics say of spans."""
    with Metrics().listening() as metrics:
        yield lambda outcome: int(
            metrics.registry.get_sample_value("chatcluster_spans_total", {"outcome": outcome}) or 0
        )


@asynccontextmanager
async def running(collector: Collector) -> AsyncIterator[SpanExport]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(collector.answer)) as client:
        export = SpanExport(Endpoint(f"{URL}/v1/traces"), client, "replica-1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(export.run)
            yield export
            nursery.cancel_scope.cancel()


def tell(export: SpanExport, count: int) -> None:
    for number in range(count):
        export.listen("tool.called", CALL | {"call_id": f"call_{number}"})


async def test_spans_are_sent_together(collector: Collector, autojump_clock: trio.testing.MockClock) -> None:
    async with running(collector) as export:
        tell(export, 20)
        export.listen("chat.claimed", {"chat_id": CHAT})
        await trio.sleep(export_module.EVERY_SECONDS + 0.1)
        assert (collector.tries, collector.taken) == (1, 20)
        await trio.sleep(100)
        assert collector.tries == 1, "nothing is sent where there is nothing to tell"


async def test_many_spans_are_sent_at_once_and_in_bounded_requests(
    collector: Collector, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(collector) as export:
        tell(export, 2 * export_module.REQUEST_SPANS_MAX + 5)
        await trio.testing.wait_all_tasks_blocked()
        assert collector.taken == 2 * export_module.REQUEST_SPANS_MAX + 5
        assert collector.largest <= export_module.REQUEST_SPANS_MAX


async def test_p10_an_endpoint_that_is_down_costs_a_bounded_queue_and_a_counted_drop(
    collector: Collector, autojump_clock: trio.testing.MockClock, counted: Callable[[str], int]
) -> None:
    collector.status = 0
    async with running(collector) as export:
        tell(export, export_module.QUEUE_SPANS_MAX + 100)
        await trio.sleep(3600)
        assert counted("dropped") == 100
        assert collector.tries < 80, "it is asked more and more seldom"
        collector.status = 200
        await trio.sleep(export_module.WAIT_SECONDS_MAX + 1)
        assert collector.taken == export_module.QUEUE_SPANS_MAX == counted("exported")


@pytest.mark.parametrize("status", [429, 503])
async def test_what_an_overloaded_endpoint_did_not_take_is_sent_again(
    collector: Collector, autojump_clock: trio.testing.MockClock, counted: Callable[[str], int], status: int
) -> None:
    collector.status = status
    async with running(collector) as export:
        tell(export, 3)
        await trio.sleep(10)
        collector.status = 200
        await trio.sleep(60)
        assert (collector.taken, counted("dropped")) == (3, 0)


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413])
async def test_what_an_endpoint_refuses_is_dropped_and_counted(
    collector: Collector, autojump_clock: trio.testing.MockClock, counted: Callable[[str], int], status: int
) -> None:
    collector.status = status
    async with running(collector) as export:
        tell(export, 3)
        await trio.sleep(10)
        assert (collector.tries, counted("dropped"), counted("exported")) == (1, 3, 0)


async def test_no_bug_of_ours_on_the_way_ends_a_replica(
    autojump_clock: trio.testing.MockClock, counted: Callable[[str], int]
) -> None:
    class Broken(Collector):
        def answer(self, request: httpx.Request) -> httpx.Response:
            raise ZeroDivisionError

    async with running(Broken()) as export:
        tell(export, 3)
        await trio.sleep(10)
        assert counted("dropped") == 3


# --- a real endpoint --------------------------------------------------------------------------


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with open_receiver() as server:
        yield server


async def test_what_is_there_in_the_end_is_sent_before_the_end(receiver: Receiver) -> None:
    endpoint = Endpoint(receiver.url, {"authorization": "Bearer key"}, gzip=True, resource={"team": "chats"})
    async with exporting(endpoint, "replica-1"):
        telemetry.event("tool.called", **CALL)
    telemetry.event("tool.called", **CALL)
    ((path, headers, body),) = receiver.requests
    assert path == "/v1/traces"
    assert headers["authorization"] == "Bearer key"
    assert (headers["content-type"], headers["content-encoding"]) == ("application/x-protobuf", "gzip")
    (of_resource,) = ExportTraceServiceRequest.FromString(gzip.decompress(body)).resource_spans
    resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
    assert resource == {
        "service.name": "chatcluster",
        "service.version": __version__,
        "service.instance.id": "replica-1",
        "team": "chats",
    }


async def test_the_end_waits_for_no_endpoint_that_does_not_answer() -> None:
    """P6: a replica that leaves is gone in time."""
    async with _silent() as url:
        with trio.fail_after(export_module.FLUSH_SECONDS_MAX + 10):
            async with exporting(Endpoint(url), "replica-1"):
                telemetry.event("tool.called", **CALL)


@asynccontextmanager
async def _silent() -> AsyncIterator[str]:
    """An endpoint that takes connections, and says nothing."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/v1/traces"
