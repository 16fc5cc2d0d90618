"""The simulated provider as a server: its pace and its faults are what they claim to be on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import h11
import httpx
import msgspec
import pytest
import trio
import trio.testing

from chatcluster.llm.simulator import connection as simulator_connection
from chatcluster.llm.simulator import server as simulator
from chatcluster.llm.simulator.connection import BODY_BYTES_MAX, IDLE_SECONDS
from chatcluster.llm.simulator.question import Question, Spoken
from chatcluster.llm.simulator.script import expected_text
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions, directives_help
from chatcluster.title_text import TITLE_INSTRUCTION


class RawClient:
    """One HTTP/1.1 connection to a simulator, over memory: so that the mock clock rules the pace."""

    def __init__(self, nursery: trio.Nursery, options: SimulatorOptions) -> None:
        self.simulator = Simulator(options)
        self.stream, self._theirs = trio.testing.memory_stream_pair()
        self._http = h11.Connection(h11.CLIENT)
        nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        async with self._theirs:
            await self.simulator.serve_connection(self._theirs)

    async def ask(self, prompt: str, *, stream: bool = True) -> None:
        body = msgspec.json.encode({"messages": [{"role": "user", "content": prompt}], "stream": stream})
        await self.send("POST", "/v1/chat/completions", body)

    async def send(self, method: str, path: str, body: bytes = b"") -> None:
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        headers = [("host", "simulator"), ("content-length", str(len(body)))]
        data = self._http.send(h11.Request(method=method, target=path, headers=headers))
        await self.stream.send_all((data or b"") + (self._http.send(h11.Data(data=body)) or b""))
        await self.stream.send_all(self._http.send(h11.EndOfMessage()) or b"")

    async def events(self) -> AsyncIterator[h11.Event]:
        """Everything up to the end of the response; raises ``h11.RemoteProtocolError`` if it is cut."""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Event):
                yield event
                if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    return

    async def response(self) -> tuple[int, bytes]:
        status, body = 0, b""
        async for event in self.events():
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        return status, body

    async def writes(self) -> list[tuple[float, int]]:
        """When each chunk of the body with text came, in seconds from now, and how many tokens it had."""
        began = trio.current_time()
        found = []
        async for event in self.events():
            if isinstance(event, h11.Data) and (count := event.data.count(b'"content":"w')):
                found.append((round(trio.current_time() - began, 6), count))
        return found


async def test_tokens_are_due_at_absolute_times(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens=5, tokens_per_second=20, first_token_ms=300))
    await client.ask("hi")
    assert await client.writes() == [(0.3, 1), (0.35, 1), (0.4, 1), (0.45, 1), (0.5, 1)]


async def test_a_late_stream_catches_up_in_separate_events(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """A busy machine must not slow the pace down, nor join tokens into one."""
    client = RawClient(nursery, SimulatorOptions(tokens=20, tokens_per_second=10))
    writes: list[tuple[float, int]] = []

    async def read() -> None:
        writes.extend(await client.writes())

    await client.ask("hi")
    nursery.start_soon(read)
    for seconds in (0.0, 0.1, 1.0, 1.0):
        mock_clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked()
    assert writes == [(0.0, 1), (0.1, 1), (1.1, 10), (2.1, 8)]


async def test_without_a_pace_all_tokens_come_at_once(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens=200, tokens_per_second=0))
    await client.ask("hi")
    writes = await client.writes()
    assert {seconds for seconds, _ in writes} == {0.0}
    assert sum(count for _, count in writes) == 200


async def test_a_cut_is_no_clean_end(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await client.ask("[[cut_after=2]]")
    with pytest.raises(h11.RemoteProtocolError, match="incomplete chunked read"):
        await client.response()


async def test_a_drop_is_a_close_without_a_response(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await client.ask("[[drop=1]]")
    assert await client.stream.receive_some() == b""


async def test_an_end_without_a_terminal_event_is_a_clean_end_of_body(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await client.ask("[[no_end_after=2]]")
    status, body = await client.response()
    assert (status, body.count(b'"w')) == (200, 2)
    assert b'"finish_reason":"' not in body
    assert b"[DONE]" not in body


async def test_silence_ends_when_the_client_goes(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await client.ask("[[silence_after=2]]")
    await trio.testing.wait_all_tasks_blocked()
    during = client.simulator.statistics()
    await client.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (during["streaming"], during["aborted"]) == (1, 0)
    assert client.simulator.statistics() == {
        "connections": 0,
        "requests": 1,
        "generations": 1,
        "generated": 2,
        "cancelled": 0,
        "streaming": 0,
        "aborted": 1,
    }


async def test_no_wait_is_endless(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    """An idle connection and a silent answer end some day, also if the client stays."""
    idle = RawClient(nursery, SimulatorOptions())
    silent = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await silent.ask("[[silence_after=0]]")
    assert await idle.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(IDLE_SECONDS)
    with pytest.raises(h11.RemoteProtocolError):
        await silent.response()
    assert trio.current_time() == pytest.approx(simulator.SILENCE_SECONDS)


async def test_times_counts_by_conversation(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    statuses = []
    for prompt in (
        "a [[fail=500 times=2]]",
        "a [[fail=500 times=2]]",
        "b [[fail=500 times=2]]",
        "a [[fail=500 times=2]]",
    ):
        await client.ask(prompt)
        statuses.append((await client.response())[0])
    assert statuses == [500, 500, 500, 200]


async def test_the_memory_of_attempts_is_bounded(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "ATTEMPTS_REMEMBERED_MAX", 2)
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    statuses = []
    for name in "abcab":
        await client.ask(f"{name} [[fail=500 times=1]]")
        statuses.append((await client.response())[0])
    assert statuses == [500] * 5


async def test_an_answer_can_be_asked_for_without_a_stream(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await client.ask("[[say=Hi there]] [[reasoning=2]]", stream=False)
    status, body = await client.response()
    choice = msgspec.json.decode(body)["choices"][0]
    assert status == 200
    assert choice["message"] == {"role": "assistant", "content": "Hi there", "reasoning_content": "r0 r1 "}
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("orders", "status"), [("fail=429", 429), ("error_after=1", 500), ("cut_after=1", None), ("no_end_after=1", None)]
)
async def test_faults_without_a_stream(nursery: trio.Nursery, orders: str, status: int | None) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0))
    await client.ask(f"[[{orders}]]", stream=False)
    if status is None:
        with pytest.raises(h11.RemoteProtocolError):
            await client.response()
    else:
        assert (await client.response())[0] == status


async def test_clock_mode_tells_when_each_token_was_written(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens_per_second=0, tokens=3, mode="clock"))
    await client.ask("hi")
    _, body = await client.response()
    chunks = [msgspec.json.decode(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    texts = [chunk["choices"][0]["delta"].get("content") for chunk in chunks if chunk["choices"]]
    times = [int(text) for text in texts if text]
    assert len(times) == 3
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/models", b"", 200),
        ("GET", "/healthz?x=1", b"", 200),
        ("HEAD", "/healthz", b"", 404),
        ("GET", "/", b"", 404),
        ("POST", "/v1/chat/completions", b"not json", 400),
        ("POST", "/v1/chat/completions", b'{"messages": 7}', 400),
        ("POST", "/v1/chat/completions", b'{"messages": [{"role": "user", "content": "[[what=1]]"}]}', 400),
        ("POST", "/v1/chat/completions", b'{"messages": [], "stream": false}', 200),
        ("POST", "/v1/chat/completions", b'{"messages": [{"role": "user", "content": null}]}', 200),
    ],
)
async def test_each_request_is_answered(
    nursery: trio.Nursery, method: str, path: str, body: bytes, status: int
) -> None:
    client = RawClient(nursery, SimulatorOptions(tokens=1, tokens_per_second=0))
    await client.send(method, path, body)
    if method == "HEAD":
        events = [event async for event in client.events()]
        assert isinstance(events[0], h11.Response)
        assert events[0].status_code == status
    else:
        assert (await client.response())[0] == status


async def test_what_is_not_http_is_refused_and_the_server_lives(nursery: trio.Nursery) -> None:
    client = RawClient(nursery, SimulatorOptions())
    await client.stream.send_all(b"\x16\x03\x01 this is TLS\r\n\r\n")
    answer = b""
    while received := await client.stream.receive_some():
        answer += received
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_a_body_over_the_limit_is_refused(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator_connection, "BODY_BYTES_MAX", 100)
    assert BODY_BYTES_MAX > 1 << 20
    client = RawClient(nursery, SimulatorOptions())
    await client.send("POST", "/v1/chat/completions", b"x" * 101)
    assert (await client.response())[0] == 413


async def test_serving_on_a_socket_reports_the_base_url(nursery: trio.Nursery) -> None:
    url: Any = await nursery.start(simulator.serve, SimulatorOptions(port=0))
    async with httpx.AsyncClient(base_url=url) as client:
        models = (await client.get("/models")).json()
        health = (await client.get("/../healthz")).json()
    nursery.cancel_scope.cancel()
    assert url.endswith("/v1")
    assert [model["id"] for model in models["data"]] == ["simulated"]
    assert health.pop("status") == "ok"
    assert {name: count for name, count in health.items() if count} == {"connections": 1, "requests": 2}


def test_help_lists_the_directives() -> None:
    assert "cut_after=10" in directives_help()


def test_a_conversation_that_is_to_be_named_gets_a_title_whatever_its_message_orders() -> None:
    """A demonstration has titles that look like some; what is ordered is for the answer, and counts there alone."""
    question = Question(
        spoken=(
            Spoken("system", TITLE_INSTRUCTION),
            Spoken("user", "Why is [[fail=500 times=1]] the sky blue, and [when]?"),
        ),
        request=b"",
    )
    assert question.wants_title
    assert expected_text(question.prompt) == "Why is the sky blue, and"
    assert not Question(spoken=(Spoken("user", TITLE_INSTRUCTION),), request=b"").wants_title
