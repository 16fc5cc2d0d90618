"""A turn and the trace of whoever asked for it are linked, and what is asked of servers says which span it is of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans
from settings_model import settings_model
from web_world import World, client_of

from chatcluster import telemetry, trace_context
from chatcluster.config import Settings
from chatcluster.errors import ProviderError
from chatcluster.llm import client as client_module
from chatcluster.ports import ModelRequest
from chatcluster.trace_context import Context, read_traceparent
from chatcluster.tracing import otlp
from chatcluster.tracing.spans import Kind, Span, context_of, span_of, wants

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    """All that would be told."""
    told: list[Span] = []

    def listen(name: str, fields: dict[str, object]) -> None:
        if wants(name, fields, 1.0):
            told.append(span_of(name, fields, 1_000_000_000))

    telemetry.subscribe(listen)
    with trace_context.telling(context_of):
        yield told
    telemetry.unsubscribe(listen)


# --- the form ---------------------------------------------------------------------------------


def test_what_is_written_is_read() -> None:
    context = Context(bytes.fromhex(TRACE), bytes.fromhex(CALLER))
    assert str(context) == SAMPLED
    assert read_traceparent(SAMPLED.encode()) == context
    assert read_traceparent(f"00-{TRACE}-{CALLER}-00".encode()) == context._replace(sampled=False)
    assert read_traceparent(f"00-{TRACE}-{CALLER}-fe".encode()) == context._replace(sampled=False)


def test_of_a_later_version_counts_what_this_one_has() -> None:
    assert read_traceparent(f"01-{TRACE}-{CALLER}-01-what-is-new".encode()) is not None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-01-more",
        f"00-{TRACE}-{CALLER}-1",
        f"00-{TRACE.upper()}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}x-{CALLER}-01",
        f"00-{TRACE}-{CALLER}-0g",
        f"01-{TRACE}-{CALLER}-01more",
        "é" * 40,
    ],
)
def test_what_has_not_the_form_is_none(value: str) -> None:
    assert read_traceparent(value.encode()) is None


# --- in ---------------------------------------------------------------------------------------


async def posted(client: httpx.AsyncClient, path: str, *traceparents: str, **body: Any) -> Any:
    headers = [("traceparent", value) for value in traceparents]
    response = await client.post(f"/api/v1/chats{path}", json={"content": "hello", **body}, headers=headers)
    assert response.is_success, response.text
    return response.json()


async def test_a_request_and_the_turn_that_it_asks_for_are_linked_in_both_directions(spans: list[Span]) -> None:
    async with client_of(World()) as client:
        chat = await posted(client, "", SAMPLED)
        (message,) = (await client.get(f"/api/v1/chats/{chat['id']}/messages")).json()["messages"]
    received, request = spans
    turn = context_of("chat.turn", {"chat_id": chat["id"], "message_id": message["id"]})
    assert (request.trace_id.hex(), request.parent_id.hex()) == (TRACE, CALLER)
    assert (request.name, request.kind) == ("POST /api/v1/chats", Kind.SERVER)
    assert request.attributes["http.response.status_code"] == 201
    assert request.attributes["gen_ai.conversation.id"] == chat["id"]
    assert [link[:2] for link in request.links] == [turn[:2]]
    assert (received.trace_id, received.parent_id) == turn[:2]
    assert [link[:2] for link in received.links] == [(request.trace_id, request.span_id)]


async def test_a_message_that_waits_in_the_queue_names_its_chat_alone(spans: list[Span]) -> None:
    async with client_of(World()) as client:
        chat = await posted(client, "")
        await posted(client, f"/{chat['id']}/messages", SAMPLED, busy="queue")
    (request,) = spans
    assert (request.attributes["gen_ai.conversation.id"], request.links) == (chat["id"], ())


@pytest.mark.parametrize("traceparents", [(), (SAMPLED, SAMPLED), ("nonsense",), (f"00-{TRACE}-{CALLER}-00",)], ids=str)
async def test_a_request_without_one_good_trace_is_served_and_told_of_to_nobody(
    traceparents: tuple[str, ...], spans: list[Span]
) -> None:
    async with client_of(World()) as client:
        await posted(client, "", *traceparents)
    assert not spans


async def test_the_next_request_on_a_connection_belongs_to_no_trace_of_the_one_before(spans: list[Span]) -> None:
    async with client_of(World()) as client:
        await posted(client, "", SAMPLED)
        before = len(spans)
        await posted(client, "")
    assert len(spans) == before


async def test_without_an_endpoint_nothing_is_read() -> None:
    told: list[str] = []

    def listen(name: str, fields: dict[str, object]) -> None:
        if name == "chat.asked" or "traceparent" in fields:
            told.append(name)

    telemetry.subscribe(listen)
    async with client_of(World()) as client:
        await posted(client, "", SAMPLED)
    telemetry.unsubscribe(listen)
    assert not told


def test_opentelemetry_reads_the_links() -> None:
    turns = [("chat", 7), ("chat", None)]
    fields = {
        "method": "POST",
        "route": "/x",
        "status": 503,
        "traceparent": SAMPLED,
        "span_id": "aa" * 8,
        "turns": turns,
    }
    span = span_of("http.request", fields, 1)
    (read,) = ScopeSpans.FromString(otlp.encoded(span)).spans
    assert (read.trace_id.hex(), read.span_id.hex(), read.parent_span_id.hex()) == (TRACE, "aa" * 8, CALLER)
    assert [(link.trace_id, link.span_id) for link in read.links] == [
        context_of("chat.turn", {"chat_id": "chat", "message_id": 7})[:2]
    ]
    assert (read.kind, read.status.code) == (Kind.SERVER, 2)


# --- out --------------------------------------------------------------------------------------


async def test_a_request_to_a_model_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx.Headers] = []

    async def send(_: httpx.AsyncClient, request: httpx.Request, __: Any) -> httpx.Response:
        sent.append(request.headers)
        raise ProviderError("enough", kind="generic", retryable=False)

    monkeypatch.setattr(client_module, "_send_once", send)
    async with settings_model(
        Settings.of(llm_base_url="http://127.0.0.1:1", llm_api_key="key", llm_model="m")
    ) as model:
        for telling in (nullcontext(), trace_context.telling(context_of)):
            with pytest.raises(ProviderError), telling, trace_context.working("model.asked", {"attempt": 1}):
                async with model.stream(ModelRequest(UUID(int=1), ())):
                    pass
    assert [headers.get("traceparent") for headers in sent] == [None, str(context_of("model.asked", {"attempt": 1}))]


def test_a_trace_that_is_not_kept_is_sent_as_such() -> None:
    with trace_context.telling(partial(context_of, share=0.0)), trace_context.working("tool.called", {"call_id": "c"}):
        assert trace_context.headers()["traceparent"].endswith("-00")


def test_without_an_endpoint_nothing_is_sent() -> None:
    with trace_context.working("tool.called", {"call_id": "c"}):
        assert not trace_context.headers()
