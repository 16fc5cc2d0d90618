"""A turn is one trace, whoever works on it: its attempts and its calls are below it (see ``tracing/spans.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chatcluster import telemetry, trace_context
from chatcluster.chat import Busy
from chatcluster.parts import Usage
from chatcluster.ports import ModelRequest
from chatcluster.tracing.spans import SPANS, Span, context_of, span_of
from loops.cluster_world import World
from loops.tool_scenes import calling, finish, running

SECOND_NS = 1_000_000_000


@pytest.fixture
def spans() -> Iterator[list[Span]]:
    """All spans that ended, in the order of their ends, a second apart."""
    told: list[Span] = []

    def listen(name: str, fields: dict[str, object]) -> None:
        if name in SPANS:
            told.append(span_of(name, fields, (1 + len(told)) * SECOND_NS))

    telemetry.subscribe(listen)
    yield told
    telemetry.unsubscribe(listen)


def root_of(spans: list[Span]) -> Span:
    """The one turn; all other spans are of its trace, and below it."""
    (root,) = [span for span in spans if not span.parent_id]
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert all(span.parent_id == root.span_id for span in spans if span is not root)
    assert len({span.span_id for span in spans}) == len(spans)
    return root


async def test_a_turn_its_attempt_and_what_it_cost(world: World, spans: list[Span]) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    assert call.request.meter is not None
    call.finish(usage=Usage(10, 5, reasoning_tokens=2, cached_input_tokens=3), model="large-2")
    await reader.until_status("waiting")
    attempt, turn = spans
    assert root_of(spans) is turn
    assert (turn.name, attempt.name) == ("invoke_agent chatcluster", "chat")
    assert turn.attributes["gen_ai.conversation.id"] == attempt.attributes["gen_ai.conversation.id"] == str(chat.id)
    assert turn.attributes["chatcluster.outcome"] == "finished"
    assert (turn.attributes["gen_ai.usage.input_tokens"], turn.attributes["gen_ai.usage.output_tokens"]) == (10, 5)
    assert attempt.attributes["gen_ai.usage.cache_read.input_tokens"] == 3
    assert attempt.attributes["gen_ai.usage.reasoning.output_tokens"] == 2
    assert attempt.attributes["gen_ai.response.model"] == "large-2"
    assert attempt.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert not turn.error
    assert not attempt.error


async def test_an_attempt_that_failed_says_of_what(world: World, spans: list[Span]) -> None:
    owner = await world.replica()
    chat = await owner.create("hello")
    (await world.model.next_call()).fail("overloaded")
    (await world.model.next_call()).fail("auth", retryable=False)
    await chat.until_status("error")
    first, second, turn = spans
    assert root_of(spans) is turn
    assert (first.error, second.error, turn.error) == ("overloaded", "auth", "auth")
    assert (first.attributes["error.type"], first.attributes["chatcluster.outcome"]) == ("overloaded", "failed")


async def test_a_server_is_told_which_span_it_is_asked_by(
    world: World, spans: list[Span], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    ask = world.model.stream

    def stream(request: ModelRequest) -> Any:
        sent.append(trace_context.headers()["traceparent"])
        return ask(request)

    monkeypatch.setattr(world.model, "stream", stream)
    owner = await world.replica()
    with trace_context.telling(context_of):
        chat = await owner.create("hello")
        (await world.model.next_call()).fail("overloaded")
        (await world.model.next_call()).answer("hi")
        await chat.until_status("waiting")
    first, second, _ = spans
    assert sent == [f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01" for span in (first, second)]


async def test_a_call_is_below_its_turn(world: World, spans: list[Span]) -> None:
    owner = await world.replica()
    chat, run = await running(world, owner)
    run.give("42")
    await finish(world, chat)
    names = [span.name for span in spans]
    assert names == ["chat", "execute_tool tool", "chat", "invoke_agent chatcluster"]
    root_of(spans)
    assert spans[1].attributes["gen_ai.tool.call.id"] == "c1"


async def test_a_call_that_failed_says_so(world: World, spans: list[Span]) -> None:
    owner = await world.replica()
    chat, run = await running(world, owner)
    run.give("no such file", is_error=True)
    await finish(world, chat)
    assert [span.error for span in spans if span.name.startswith("execute")] == ["tool_error"]


async def test_a_takeover_is_seen_in_one_trace(world: World, spans: list[Span]) -> None:
    """The IDs follow from chat and message: the next owner knows nothing of what the dead one told."""
    a, _ = await world.cluster(2)
    chat, _ = await running(world, a)
    a.kill()
    (await world.tools.next_run()).give("42")
    await finish(world, chat)
    root_of(spans)
    epochs = [span.attributes.get("chatcluster.epoch") for span in spans]
    assert epochs[0] == 1
    assert epochs[-2] == 2, "the last attempt is another tenure's"


async def test_takeovers_are_counted_where_they_happened(world: World, spans: list[Span]) -> None:
    a, _ = await world.cluster(2)
    chat = await a.create("hello")
    (await world.model.next_call()).say("Once")
    a.kill()
    (await world.model.next_call()).answer("There.")
    await chat.until_status("waiting")
    assert [span.attributes["chatcluster.takeovers"] for span in spans if span.name == "chat"][-1] == 1
    assert root_of(spans).attributes["chatcluster.takeovers"] == 1


async def test_a_steered_turn_is_two_traces_each_with_its_root(world: World, spans: list[Span]) -> None:
    """A turn is that of the newest message which it answers; what was done before belongs to the one before."""
    owner = await world.replica()
    chat = await calling(world, owner, "c1")
    run = await world.tools.next_run()
    await owner.send(chat, "and this", busy=Busy.STEER)
    run.give("42")
    await finish(world, chat)
    roots = {span.trace_id: span for span in spans if not span.parent_id}
    assert [root.attributes["chatcluster.outcome"] for root in roots.values()] == ["steered", "finished"]
    steered, finished = roots.values()
    assert steered.attributes["chatcluster.goes_on_as.message.id"] == finished.attributes["chatcluster.message.id"]
    assert all(span.trace_id in roots for span in spans)


async def test_an_interrupted_attempt_is_no_error(world: World, spans: list[Span]) -> None:
    owner = await world.replica()
    chat, _, _ = await world.answering(owner)
    await owner.interrupt(chat)
    await chat.until_status("waiting")
    attempt, turn = spans
    assert (attempt.error, attempt.attributes["chatcluster.outcome"]) == ("", "interrupted")
    assert (turn.error, turn.attributes["chatcluster.outcome"]) == ("", "interrupted")


async def test_nothing_of_what_was_said_is_told(world: World, spans: list[Span]) -> None:
    owner = await world.replica()
    chat = await calling(world, owner, "c1")
    (await world.tools.next_run()).give("a secret of the tool")
    await finish(world, chat, "a secret of the model")
    told = repr(spans)
    for words in ("hello", "Let me see", "secret"):
        assert words not in told
