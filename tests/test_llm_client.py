"""The model over HTTP, against a simulated provider on a socket: every failure becomes one error that says
whether another attempt may help, and no connection outlives its consumer (P4, P5: a stopped answer costs the
provider nothing more, and a dead one is never waited for in silence)."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
import trio
import trio.testing
from settings_model import settings_model

from chatcluster.config import Settings
from chatcluster.errors import ProviderError
from chatcluster.http_client import http_client
from chatcluster.llm import answer_stream
from chatcluster.llm import client as client_module
from chatcluster.llm.client import HttpModel
from chatcluster.llm.simulator.script import expected_text
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions
from chatcluster.parts import Message, Part, ReasoningPart, Role, TextPart, Usage, joined, text_of
from chatcluster.ports import Delta, Finished, KeepAlive, ModelRequest

KEY = "sk-test-0123456789"
DEADLINE_SECONDS = 120.0


@dataclass
class World:
    """A simulated provider, and a model that asks it."""

    simulator: Simulator
    settings: Settings
    model: HttpModel


@pytest.fixture
async def world(nursery: trio.Nursery) -> AsyncIterator[World]:
    simulator = Simulator(SimulatorOptions(port=0, tokens=20, tokens_per_second=0))
    url: Any = await nursery.start(simulator.serve)
    settings = Settings.of(llm_base_url=url, llm_api_key=KEY, llm_model="m", slots=2)
    async with settings_model(settings) as model:
        yield World(simulator, settings, model)
    nursery.cancel_scope.cancel()


def asking(prompt: str, model: str | None = None) -> ModelRequest:
    message = Message(1, Role.USER, (TextPart(prompt),), 1, datetime(2026, 1, 1, tzinfo=UTC))
    return ModelRequest(UUID(int=1), (message,), model)


async def answer(model: HttpModel, prompt: str) -> tuple[tuple[Part, ...], Finished]:
    """The whole answer, as a runner takes it: it leaves at ``Finished``."""
    deltas: list[Part] = []
    with trio.fail_after(DEADLINE_SECONDS):
        async with model.stream(asking(prompt)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    deltas.append(event.part)
                elif isinstance(event, Finished):
                    return joined(deltas), event
    raise AssertionError("the events ended without Finished")


async def failure(model: HttpModel, prompt: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await answer(model, prompt)
    assert KEY not in caught.value.message
    assert len(caught.value.message) <= 500
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(DEADLINE_SECONDS):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.001)


# --- answers ----------------------------------------------------------------------------------


async def test_an_answer_streams_with_usage_and_its_connection_is_kept(world: World) -> None:
    for _ in range(3):
        parts, finished = await answer(world.model, "three words please [[tokens=3]]")
        assert parts == (TextPart("w0 w1 w2 "),)
        assert finished == Finished("stop", Usage(4, 3, 0), "m")
        assert world.simulator.connections == 1
    assert world.simulator.aborted == 0


async def test_what_real_servers_mix_in_changes_nothing(world: World) -> None:
    parts, finished = await answer(world.model, "[[odd=1 reasoning=2 tokens=7]]")
    assert parts == (ReasoningPart("r0 r1 "), TextPart(expected_text("[[tokens=7]]")))
    assert finished.usage == Usage(3, 9, 2)


async def test_the_events_end_after_finished(world: World) -> None:
    async with world.model.stream(asking("[[tokens=2]]")) as events:
        kinds = [type(event) for event in [event async for event in events]]
    assert kinds[-1] is Finished
    assert set(kinds[:-1]) == {Delta, KeepAlive}


async def test_a_finish_reason_is_passed_on(world: World) -> None:
    assert (await answer(world.model, "[[finish=length]]"))[1].reason == "length"
    assert (await answer(world.model, "[[finish=content_filter]]"))[1].reason == "content_filter"


async def test_many_answers_at_a_time(world: World, nursery: trio.Nursery) -> None:
    texts: list[str] = []

    async def ask(word: str) -> None:
        parts, _ = await answer(world.model, f"[[word={word} tokens=30 tps=1000]]")
        texts.append(text_of(parts))

    async with trio.open_nursery() as askers:
        for number in range(16):
            askers.start_soon(ask, f"a{number}-")
    assert sorted(texts) == sorted(expected_text(f"[[word=a{number}- tokens=30]]") for number in range(16))


# --- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "kind", "retryable", "retry_after_seconds"),
    [
        ("fail=429 retry_after=2", "rate_limit", True, 2.0),
        ("fail=429 retry_after=250ms", "rate_limit", True, 0.25),
        ("fail=429 code=insufficient_quota retry_after=2", "usage_limit", False, None),
        ("fail=500", "generic", True, None),
        ("fail=503 retry_after=0", "overloaded", True, 0.0),
        ("fail=401", "auth", False, None),
        ("fail=400 code=context_length_exceeded", "context_overflow", False, None),
        ("fail=404", "config", False, None),
        ("drop=1", "generic", True, None),
        ("cut_after=0", "stream_incomplete", True, None),
        ("cut_after=5", "stream_incomplete", True, None),
        ("no_end_after=5", "stream_incomplete", True, None),
        ("no_end_after=0", "stream_incomplete", True, None),
        ("error_after=5 code=server_error", "generic", True, None),
        ("error_after=5 code=429", "rate_limit", True, None),
        ("error_after=5 code=insufficient_quota", "usage_limit", False, None),
        ("empty=1", "empty_answer", True, None),
        ("empty=1 finish=content_filter", "content_filter", False, None),
    ],
)
async def test_a_failure_is_told_once_and_the_next_attempt_succeeds(
    world: World, orders: str, kind: str, retryable: bool, retry_after_seconds: float | None
) -> None:
    prompt = f"[[{orders} tokens=10 times=1]]"
    error = await failure(world.model, prompt)
    assert (error.kind, error.retryable, error.retry_after_seconds) == (kind, retryable, retry_after_seconds)
    assert error.provider == world.settings.llm.base_url.removeprefix("http://").removesuffix("/v1")
    assert text_of((await answer(world.model, prompt))[0]) == expected_text(prompt)


async def test_what_came_before_a_failure_is_passed_on_first(world: World) -> None:
    said: list[str] = []

    async def listen() -> None:
        async with world.model.stream(asking("[[error_after=5]]")) as events:
            async for event in events:
                if isinstance(event, Delta) and isinstance(event.part, TextPart):
                    said.append(event.part.text)

    with pytest.raises(ProviderError):
        await listen()
    assert said == ["w0 ", "w1 ", "w2 ", "w3 ", "w4 "]


async def test_no_connection_is_retried() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        async with settings_model(Settings.of(llm_base_url=url, llm_api_key=KEY, llm_model="m")) as model:
            error = await failure(model, "hi")
    assert (error.kind, error.retryable) == ("generic", True)
    assert "no connection to 127.0.0.1" in error.message


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"llm_base_url": ""}, "config", "CHATCLUSTER_LLM_BASE_URL"),
        ({"llm_api_key": ""}, "missing_key", "CHATCLUSTER_LLM_API_KEY"),
        ({"llm_api_key": " \n"}, "missing_key", "CHATCLUSTER_LLM_API_KEY"),
        ({"llm_model": ""}, "config", "CHATCLUSTER_LLM_MODEL"),
    ],
)
async def test_a_missing_setting_says_what_to_set(world: World, changes: dict[str, str], kind: str, says: str) -> None:
    async with settings_model(world.settings.but(**changes)) as model:
        error = await failure(model, "hi")
    assert (error.kind, error.retryable) == (kind, False)
    assert says in error.message
    assert world.simulator.requests == 0


async def test_a_chat_that_names_its_model_needs_no_default(world: World) -> None:
    async with (
        settings_model(world.settings.but(llm_model="")) as model,
        model.stream(asking("[[tokens=1]]", "mine")) as events,
    ):
        finished = [event async for event in events][-1]
    assert isinstance(finished, Finished)
    assert finished.model == "mine"


# --- leaving ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orders", ["tps=50 tokens=100000", "first_ms=600000", "silence_after=3"])
async def test_a_cancelled_answer_is_cut_off_at_the_provider(world: World, nursery: trio.Nursery, orders: str) -> None:
    """P5: in mid-answer, before the first token, and in silence."""
    scope = trio.CancelScope()

    async def ask() -> None:
        with scope:
            await answer(world.model, f"[[{orders}]]")

    async with trio.open_nursery() as askers:
        askers.start_soon(ask)
        await until(lambda: world.simulator.streaming == 1)
        scope.cancel()
    await until(lambda: world.simulator.connections == 0)
    assert world.simulator.aborted == 1
    assert text_of((await answer(world.model, "[[tokens=1]]"))[0]) == "w0 "


async def test_a_consumer_that_leaves_early_closes_the_connection(world: World) -> None:
    async with world.model.stream(asking("[[tps=50 tokens=100000]]")) as events:
        await anext(events)
    await until(lambda: world.simulator.connections == 0)
    assert world.simulator.aborted == 1


async def test_a_consumer_that_fails_closes_the_connection(world: World) -> None:
    async def fail() -> None:
        async with world.model.stream(asking("[[tps=50 tokens=100000]]")) as events:
            await anext(events)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    await until(lambda: world.simulator.connections == 0)


async def test_cancellation_at_any_moment_leaks_no_place_in_the_pool(world: World) -> None:
    """More cancelled requests than the pool has places, each cancelled a little later than the one before."""
    places = 2 * world.settings.replica.slots + 16
    for number in range(3 * places):
        with trio.move_on_after(number * 0.0001):
            await answer(world.model, "[[tps=100 tokens=100000]]")
    assert text_of((await answer(world.model, "[[tokens=1]]"))[0]) == "w0 "
    await until(lambda: world.simulator.connections == 1)


async def test_silence_is_left_to_the_consumers_guard(world: World, nursery: trio.Nursery) -> None:
    said: list[Part] = []

    async def ask() -> None:
        async with world.model.stream(asking("[[silence_after=2]]")) as events:
            async for event in events:
                if isinstance(event, Delta):
                    said.append(event.part)

    async with trio.open_nursery() as askers:
        askers.start_soon(ask)
        await until(lambda: len(said) == 2)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert world.simulator.streaming == 1
        askers.cancel_scope.cancel()


async def test_closing_the_model_leaves_no_connection(world: World) -> None:
    async with settings_model(world.settings) as model:
        await answer(model, "hi")
        kept = world.simulator.connections
    await until(lambda: world.simulator.connections == 0)
    assert kept == 1


async def test_a_connection_that_nobody_uses_any_more_is_closed(
    world: World, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing else is asked: a replica has no more files open at night than before the day."""
    monkeypatch.setattr(client_module, "IDLE_SECONDS", 0.01)
    async with settings_model(world.settings) as model:
        await answer(model, "hi")
        nursery.start_soon(model.close_idle)
        await until(lambda: world.simulator.connections == 0)
        await answer(model, "hi")


# --- servers that the simulator does not play ---------------------------------------------------

Talk = Callable[[trio.SocketStream], Awaitable[None]]


async def read_request(stream: trio.SocketStream) -> bytes:
    """One whole request with a content length."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += await stream.receive_some()
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += await stream.receive_some()
    return head + b"\r\n\r\n" + body


async def model_of(nursery: trio.Nursery, talk: Talk) -> HttpModel:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, talk, listeners)
    url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1/"
    return settings_model(Settings.of(llm_base_url=url, llm_api_key=KEY, llm_model="m"))


def saying(head: str, body: bytes, *, then_hold: bool = False) -> Talk:
    """A server that says this to whatever comes, and then closes, or waits for the client to."""

    async def talk(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        if then_hold:
            await stream.receive_some()

    return talk


WHOLE = b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
EVENT_STREAM = "HTTP/1.1 200 OK\ncontent-type: text/event-stream\n"


async def test_a_stream_that_stays_open_after_the_finish_reason_is_whole(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_stream, "TAIL_SECONDS", 0.01)
    async with await model_of(nursery, saying(EVENT_STREAM, WHOLE, then_hold=True)) as model:
        parts, finished = await answer(model, "hi")
    nursery.cancel_scope.cancel()
    assert (parts, finished.reason) == ((TextPart("Hi"),), "stop")


async def test_a_server_that_never_ends_the_body_does_not_delay_the_answer(nursery: trio.Nursery) -> None:
    async with await model_of(nursery, saying(EVENT_STREAM, WHOLE + b"data: [DONE]\n\n", then_hold=True)) as model:
        parts, _ = await answer(model, "hi")
    nursery.cancel_scope.cancel()
    assert parts == (TextPart("Hi"),)


async def test_a_connection_lost_after_the_finish_reason_costs_nothing(nursery: trio.Nursery) -> None:
    cut = saying(EVENT_STREAM + "transfer-encoding: chunked\n", b"%x\r\n%b\r\n" % (len(WHOLE), WHOLE))
    async with await model_of(nursery, cut) as model:
        parts, _ = await answer(model, "hi")
    nursery.cancel_scope.cancel()
    assert parts == (TextPart("Hi"),)


async def test_a_server_that_does_not_stream_is_understood(nursery: trio.Nursery) -> None:
    body = b'{"choices":[{"message":{"content":"Hi","reasoning":"Hm"}}],"usage":{"prompt_tokens":3}}'
    async with await model_of(nursery, saying("HTTP/1.1 200 OK\ncontent-type: application/json\n", body)) as model:
        parts, finished = await answer(model, "hi")
    nursery.cancel_scope.cancel()
    assert parts == (ReasoningPart("Hm"), TextPart("Hi"))
    assert finished.usage == Usage(3)


@pytest.mark.parametrize(
    ("head", "body", "kind", "retryable", "says"),
    [
        ("200 OK\ncontent-type: text/html", b"<html>Welcome</html>", "config", False, "web page"),
        ("200 OK\ncontent-type: application/json", b'{"error":{"code":429}}', "rate_limit", True, "429"),
        ("200 OK\ncontent-type: application/json", b"{}", "stream_incomplete", True, "in the middle"),
        ("302 Found\nlocation: /login", b"", "config", False, "base URL"),
        ("502 Bad Gateway\ncontent-type: text/html", b"<html><title>Oops</title>", "generic", True, "Oops"),
        ("500 Oh\ncontent-length: 999", b"cut bo", "generic", True, "cut bo"),
        (f"401 No\nwww-authenticate: Bearer {KEY}", f"the key {KEY} is wrong".encode(), "auth", False, "***"),
    ],
)
async def test_responses_that_are_no_event_stream(
    nursery: trio.Nursery, head: str, body: bytes, kind: str, retryable: bool, says: str
) -> None:
    async with await model_of(nursery, saying(f"HTTP/1.1 {head}\n", body)) as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable) == (kind, retryable)
    assert says in error.message


async def test_an_error_without_end_is_read_for_a_moment_only(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_stream, "ERROR_BODY_SECONDS", 0.01)
    endless = saying("HTTP/1.1 503 Busy\n", b"Loading model", then_hold=True)
    async with await model_of(nursery, endless) as model:
        error = await failure(model, "hi")
    nursery.cancel_scope.cancel()
    assert (error.kind, error.retryable) == ("overloaded", True)
    assert "Loading model" in error.message


async def test_p10_a_cookie_that_one_answer_sets_goes_with_no_other_request() -> None:
    """They may be of two users, and would pile up where each has a name of its own."""
    sent: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": f"session-{len(sent)}=secret; Path=/"})

    url = "https://models.example/"
    async with http_client(url, transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            await client.get(url)
    assert sent == [None, None]


async def test_what_goes_out(nursery: trio.Nursery) -> None:
    requests: list[bytes] = []

    async def talk(stream: trio.SocketStream) -> None:
        requests.append(await read_request(stream))
        await stream.send_all(EVENT_STREAM.replace("\n", "\r\n").encode() + b"\r\n" + WHOLE)

    async with await model_of(nursery, talk) as model:
        await answer(model, "grüezi")
    nursery.cancel_scope.cancel()
    head, _, body = requests[0].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "post /v1/chat/completions http/1.1"
    assert f"authorization: bearer {KEY}" in lines
    assert "content-type: application/json" in lines
    assert msgspec.json.decode(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "grüezi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
