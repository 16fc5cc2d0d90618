"""Each wire over HTTP, against the simulated provider on a socket: the same conversation gives the same answers, and an
answer in the background is gone on with by whoever attaches to it (P4: nothing is asked, or paid, twice)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import trio
from told_histories import user

from chatcluster.config import Settings
from chatcluster.content import seen
from chatcluster.errors import ConfigError, ProviderError
from chatcluster.llm.client import HttpModel
from chatcluster.llm.failures import Provider
from chatcluster.llm.simulator.said import by_token
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions
from chatcluster.llm.wire import Route
from chatcluster.llm.wires import WIRES, server_at
from chatcluster.models import Continuation, Kind, ModelOptions, PrefixDialect
from chatcluster.parts import (
    Message,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    joined,
)
from chatcluster.ports import Attachable, Attachment, Delta, Finished, Meter, ModelRequest, ToolSpec

DEADLINE_SECONDS = 120.0
KEY = "sk-test-0123456789"


@dataclass
class World:
    simulator: Simulator
    url: str

    def model(self, kind: Kind, **route: Any) -> HttpModel:
        server = server_at(self.url, KEY)
        to = Route(kind=kind, server=server, base_url=self.url, api_key=KEY, model="m", **route)
        return HttpModel(lambda _: to, concurrent=2, first_url=self.url)


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    simulator = Simulator(SimulatorOptions(port=0, tokens=20, tokens_per_second=0))
    url: Any = await nursery.start(simulator.serve)
    yield World(simulator, url)
    nursery.cancel_scope.cancel()


def asking(*messages: tuple[Role, tuple[Part, ...]], attach: Attachment | None = None) -> ModelRequest:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    history = tuple(Message(index, role, parts, 1, at) for index, (role, parts) in enumerate(messages, 1))
    return ModelRequest(UUID(int=1), history, tools=(ToolSpec("weather", "", {}),), attach=attach)


async def answer(model: HttpModel, request: ModelRequest) -> tuple[tuple[Part, ...], Finished]:
    said: list[Part] = []
    with trio.fail_after(DEADLINE_SECONDS):
        async with model.stream(request) as events:
            async for event in events:
                if isinstance(event, Delta):
                    said.append(event.part)
                elif isinstance(event, Finished):
                    return joined(said), event
    raise AssertionError("the events ended without Finished")


@pytest.mark.parametrize("odd", ["", " [[odd=1]]"])
@pytest.mark.parametrize("kind", Kind)
async def test_a_turn_with_a_tool_goes_the_same_way_on_each_wire(world: World, kind: Kind, odd: str) -> None:
    asked = user(f'[[reasoning=2]] [[call=weather {{"city": "Bern"}}]]{odd}')
    async with world.model(kind) as model:
        first, finished = await answer(model, asking(asked))
        (call,) = [part for part in first if isinstance(part, ToolCallPart)]
        assert (call.name, call.arguments, finished.reason) == ("weather", '{"city": "Bern"}', "tool_calls")
        assert first[0] == ReasoningPart("r0 r1 ")
        assert finished.usage is not None
        result = (Role.TOOL, (ToolResultPart(call.id, "rain"),))
        second, finished = await answer(model, asking(asked, (Role.ASSISTANT, first), result))
    assert [part for part in second if isinstance(part, TextPart)] == [TextPart("* `weather`: rain")]
    assert (finished.reason, finished.model) == ("stop", "m")


@pytest.mark.parametrize("kind", [Kind.ANTHROPIC, Kind.RESPONSES])
async def test_what_a_provider_refuses_of_what_it_sealed_itself_can_be_left_out(world: World, kind: Kind) -> None:
    """Its rules or its keys may have changed: the chat goes on without that."""
    orders = '[[reasoning=2]] [[call=weather {"city": "Bern"}]]'
    async with world.model(kind) as model:
        first, _ = await answer(model, asking(user(orders)))
        (call,) = [part for part in first if isinstance(part, ToolCallPart)]
        result = (Role.TOOL, (ToolResultPart(call.id, "rain"),))
        request = asking(user(f"In other words. {orders}"), (Role.ASSISTANT, first), result)
        with pytest.raises(ProviderError) as caught:
            await answer(model, request)
        assert (caught.value.kind, caught.value.retryable) == ("opaque_refused", False)
        _, finished = await answer(model, msgspec.structs.replace(request, is_plain=True))
    assert finished.reason == "stop"


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("orders", "expected", "retryable"),
    [
        ("fail=429 retry_after=2", "rate_limit", True),
        ("fail=529", "overloaded", True),
        ("fail=401", "auth", False),
        ("fail=413", "context_overflow", False),
        ("cut_after=5", "stream_incomplete", True),
        ("no_end_after=5", "stream_incomplete", True),
        ("error_after=5", "generic", True),
        ("empty=1", "empty_answer", True),
    ],
)
async def test_a_failure_is_the_same_failure_on_each_wire(
    world: World, kind: Kind, orders: str, expected: str, retryable: bool
) -> None:
    async with world.model(kind) as model:
        with pytest.raises(ProviderError) as caught:
            await answer(model, asking(user(f"[[{orders} tokens=10]]")))
    assert (caught.value.kind, caught.value.retryable) == (expected, retryable)


@pytest.mark.parametrize("kind", Kind)
async def test_an_answer_is_understood_whole_too(world: World, kind: Kind) -> None:
    """Some gateways do not stream: their body is one JSON value."""
    request = asking(user("[[say=Hi there]] [[reasoning=2]]"))
    route = Route(kind=kind, server=Provider("x"), base_url=world.url, api_key=KEY, model="m")
    body = msgspec.json.decode(b"".join(WIRES[kind].body(request, route)))
    async with httpx.AsyncClient() as client:
        target = WIRES[kind].target(request, route)
        response = await client.request(*target, json=body | {"stream": False})
    decoder = WIRES[kind].decoder(request, route)
    events = decoder.feed(response.content) + decoder.end()
    assert TextPart("Hi there") in joined(event.part for event in events if isinstance(event, Delta))
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("kind", Kind)
async def test_what_an_answer_cites_is_told_behind_its_text_and_goes_back_as_it_came(world: World, kind: Kind) -> None:
    asked = user("[[say=It rains.]] [[source=https://a.example/ Weather]] [[source=https://b.example/]]")
    async with world.model(kind) as model:
        said, _ = await answer(model, asking(asked))
        shown = (TextPart("It rains."), SourcePart("https://a.example/", "Weather"), SourcePart("https://b.example/"))
        assert seen(said) == shown
        _, finished = await answer(model, asking(asked, (Role.ASSISTANT, said), user("And tomorrow?")))
    assert finished.reason == "stop"


def test_the_settings_name_a_wire() -> None:
    for kind in Kind:
        assert Settings.of(llm_kind=kind.value)
    with pytest.raises(ConfigError, match="llm-kind must be one of"):
        Settings.of(llm_kind="telepathy")


# --- in the background ------------------------------------------------------------------------


async def leave_after(model: HttpModel, request: ModelRequest, deltas: int) -> tuple[str, list[Delta]]:
    """The ID of the answer, and its first pieces: then whoever listened is gone."""
    answer_id, said = "", []
    with trio.fail_after(DEADLINE_SECONDS):
        async with model.stream(request) as events:
            async for event in events:
                if isinstance(event, Attachable):
                    answer_id = event.answer_id
                elif isinstance(event, Delta):
                    said.append(event)
                    if len(said) == deltas:
                        break
    return answer_id, said


@pytest.mark.parametrize("deltas", [1, 5, 19])
async def test_p4_whoever_attaches_gets_the_rest_of_the_answer_and_nothing_is_asked_twice(
    world: World, deltas: int
) -> None:
    async with world.model(Kind.RESPONSES, in_background=True) as model:
        answer_id, said = await leave_after(model, asking(user("[[tokens=20 tps=500]]")), deltas)
        rest, finished = await answer(model, asking(attach=Attachment(answer_id, said[-1].sequence)))
        assert joined([*(delta.part for delta in said), *rest]) == (
            TextPart("".join(f"w{index} " for index in range(20))),
        )
        again, _ = await answer(model, asking(attach=Attachment(answer_id)))
        assert again == (TextPart("".join(f"w{index} " for index in range(20))),)
    assert finished.reason == "stop"
    assert world.simulator.generations == 1


@pytest.mark.parametrize("deltas", [1, 2, 3, 5, 6])
async def test_p7_calls_that_had_begun_are_gone_on_with_whole_and_once(world: World, deltas: int) -> None:
    orders = '[[call=weather {"city": "Bern", "days": 7}]] [[call=weather {"city": "Rom"}]] [[tps=500]]'
    async with world.model(Kind.RESPONSES, in_background=True) as model:
        answer_id, said = await leave_after(model, asking(user(orders)), deltas)
        known = [delta.part for delta in said]
        calls = tuple(part for part in joined(known) if isinstance(part, ToolCallPart))
        async with model.stream(asking(attach=Attachment(answer_id, said[-1].sequence, calls))) as events:
            rest = [event async for event in events]
    whole = joined([*known, *(event.part for event in rest if isinstance(event, Delta))])
    told = [(part.name, part.arguments) for part in whole if isinstance(part, ToolCallPart)]
    assert told == [("weather", '{"city": "Bern", "days": 7}'), ("weather", '{"city": "Rom"}')]
    assert isinstance(rest[-1], Finished)
    assert rest[-1].reason == "tool_calls"
    assert world.simulator.generations == 1


async def test_whoever_attaches_behind_the_last_piece_hears_that_it_was_the_last(world: World) -> None:
    async with world.model(Kind.RESPONSES, in_background=True) as model:
        answer_id, said = await leave_after(model, asking(user("[[tokens=2]]")), 2)
        rest, finished = await answer(model, asking(attach=Attachment(answer_id, said[-1].sequence)))
    assert (rest, finished.reason) == ((), "stop")


async def test_an_answer_that_the_provider_has_forgotten_is_asked_for_anew(world: World) -> None:
    async with world.model(Kind.RESPONSES, in_background=True) as model:
        answer_id, _ = await leave_after(model, asking(user("[[tokens=20 forget=1]]")), 1)
        with pytest.raises(ProviderError) as caught:
            await answer(model, asking(attach=Attachment(answer_id)))
    assert (caught.value.kind, caught.value.retryable) == ("answer_forgotten", True)


async def test_a_break_of_the_connection_ends_no_answer_in_the_background(world: World) -> None:
    async with world.model(Kind.RESPONSES, in_background=True) as model:
        with pytest.raises(ProviderError):
            await leave_after(model, asking(user("[[tokens=20 cut_after=5]]")), 99)
        (answer_id,) = [f"resp_{name}" for name in world.simulator._background]
        whole, _ = await answer(model, asking(attach=Attachment(answer_id)))
    assert whole == (TextPart("".join(f"w{index} " for index in range(20))),)


async def test_p5_an_answer_that_nobody_wants_is_cancelled_at_its_provider(world: World) -> None:
    async with world.model(Kind.RESPONSES, in_background=True) as model:
        answer_id, _ = await leave_after(model, asking(user("[[tokens=20 tps=500]]")), 2)
        request = asking(attach=Attachment(answer_id))
        await model.cancel(request)
        assert world.simulator.cancelled == 1
        with pytest.raises(ProviderError, match="forgotten"):
            await answer(model, request)
        with pytest.raises(ProviderError, match="did not cancel"):
            await model.cancel(request)


@pytest.mark.parametrize("kind", Kind)
async def test_a_server_is_asked_to_go_on_in_the_way_that_it_knows_and_in_no_other(world: World, kind: Kind) -> None:
    able = {Kind.OPENAI: Continuation.PREFIX, Kind.RESPONSES: Continuation.BACKGROUND}
    async with world.model(kind, in_background=True, goes_on_from_words=True) as model:
        found = model.continuation(asking(user("hi")))
    assert found is able.get(kind, Continuation.NONE)
    async with world.model(kind) as model:
        assert model.continuation(asking(user("hi"))) is Continuation.NONE
        for request in (asking(attach=Attachment("resp_1")), begun_with("w0 ", "[[tokens=5]]")):
            with pytest.raises(ProviderError) as caught:
                await answer(model, request)
            assert caught.value.kind == "answer_forgotten"
    assert world.simulator.requests == 0


# --- from the words that there are ------------------------------------------------------------


def begun_with(words: str, prompt: str) -> ModelRequest:
    return msgspec.structs.replace(asking(user(prompt)), begun=words)


def words(count: int) -> str:
    return "".join(f"w{index} " for index in range(count))


@pytest.mark.parametrize("dialect", PrefixDialect)
@pytest.mark.parametrize("taken", [1, 2, 3, 10, 49, 50])
async def test_a_model_says_the_rest_byte_for_byte_in_each_dialect(
    world: World, dialect: PrefixDialect, taken: int
) -> None:
    """P3: also where the words end in the middle of one, and where there is nothing more to say."""
    whole = "".join(f"w{index} " for index in range(20))
    echoed = " echoed=1" if dialect is PrefixDialect.PREFIX_ECHOED else ""
    options = ModelOptions(prefix=dialect)
    async with world.model(Kind.OPENAI, goes_on_from_words=True, options=options) as model:
        rest, finished = await answer(model, begun_with(whole[:taken], f"[[tokens=20{echoed}]]"))
        assert joined((TextPart(whole[:taken]), *rest)) == (TextPart(whole),)
        assert finished.reason == "stop"
        assert finished.usage is not None
        if not echoed:
            count, _ = by_token(whole[taken:])
            assert finished.usage.output_tokens == world.simulator.generated == count, "the rest alone is generated"
        last, finished = await answer(model, begun_with(whole, f"[[tokens=20{echoed}]]"))
        assert (last, finished.reason) == ((), "stop")


@pytest.mark.parametrize("kind", Kind)
async def test_an_answer_ends_at_its_limit(world: World, kind: Kind) -> None:
    async with world.model(kind, output_tokens_max=12) as model:
        said, finished = await answer(model, asking(user("[[tokens=20]]")))
    assert (said, finished.reason) == ((TextPart(words(12)),), "length")
    assert finished.usage is not None
    assert finished.usage.output_tokens == 12


@pytest.mark.parametrize("taken", [1, 11, 12, 13])
@pytest.mark.parametrize("where", ["route", "extra_body"])
async def test_an_answer_that_is_continued_is_no_longer_than_its_limit(world: World, taken: int, where: str) -> None:
    """What it has counts. At the limit nobody is asked for more, and nothing is paid."""
    options = ModelOptions(extra_body={"max_tokens": 12} if where == "extra_body" else {})
    limit = None if where == "extra_body" else 12
    async with world.model(Kind.OPENAI, goes_on_from_words=True, output_tokens_max=limit, options=options) as model:
        request = msgspec.structs.replace(begun_with(words(taken), "[[tokens=20]]"), begun_tokens=taken, meter=Meter())
        rest, finished = await answer(model, request)
    assert joined((TextPart(words(taken)), *rest)) == (TextPart(words(max(taken, 12))),)
    assert finished.reason == "length"
    assert finished.usage is not None
    assert finished.usage.output_tokens == max(0, 12 - taken) == world.simulator.generated
    assert world.simulator.requests == (taken < 12)


async def test_each_piece_of_an_answer_that_can_be_continued_says_how_many_tokens_there_are(world: World) -> None:
    async with world.model(Kind.OPENAI, goes_on_from_words=True) as model:
        _, said = await leave_after(model, asking(user("[[tokens=20]]")), 7)
        assert [delta.sequence for delta in said] == [1, 2, 3, 4, 5, 6, 7]
        request = msgspec.structs.replace(begun_with(words(7), "[[tokens=20]]"), begun_tokens=7)
        _, said = await leave_after(model, request, 2)
        assert [delta.sequence for delta in said] == [8, 9]


async def test_what_only_looks_like_an_echo_is_said(world: World) -> None:
    """The rest begins as the words do, and the server does not tell them again."""
    options = ModelOptions(prefix=PrefixDialect.PREFIX_ECHOED)
    async with world.model(Kind.OPENAI, goes_on_from_words=True, options=options) as model:
        rest, _ = await answer(model, begun_with("ho ho hum ", "[[say=ho ho hum ho ho ho]]"))
        assert rest == (TextPart("ho ho ho"),)
        rest, _ = await answer(model, begun_with("ho ho hum ", "[[say=ho ho hum ho ho]]"))
        assert rest == (TextPart("ho ho"),)


async def test_a_server_that_cannot_go_on_from_these_words_says_so(world: World) -> None:
    async with world.model(Kind.OPENAI, goes_on_from_words=True) as model:
        with pytest.raises(ProviderError, match="nothing to go on from"):
            await answer(model, begun_with("something else", "[[tokens=20]]"))
