"""The simulated provider has a context, says in each vendor's way that a prompt is too long, and summarises."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest
import trio

from chatcluster.context import HEADING, INSTRUCTION
from chatcluster.llm.failures import Provider, from_response
from chatcluster.llm.simulator.overflow import WAYS
from chatcluster.llm.simulator.question import Question, Spoken
from chatcluster.llm.simulator.script import Script, read_script
from chatcluster.llm.simulator.server import Simulator, SimulatorOptions

PATHS = ("/chat/completions", "/messages", "/responses")
LONG = "word " * 300


@pytest.fixture
async def simulator() -> AsyncIterator[tuple[Simulator, str]]:
    simulator = Simulator(SimulatorOptions(port=0, tokens_per_second=0, context_tokens=200))
    async with trio.open_nursery() as nursery:
        yield simulator, await nursery.start(simulator.serve)
        nursery.cancel_scope.cancel()


def body(path: str, *said: tuple[str, str]) -> dict[str, Any]:
    messages = [{"role": role, "content": text} for role, text in said]
    if path == "/responses":
        return {"model": "m", "input": messages, "store": False}
    return {"model": "m", "messages": messages} | ({"max_tokens": 100} if path == "/messages" else {})


async def post(url: str, path: str, *said: tuple[str, str]) -> httpx.Response:
    headers = {"anthropic-version": "2026-10-21", "authorization": "Bearer any"}
    async with httpx.AsyncClient() as client:
        return await client.post(url + path, json=body(path, *said), headers=headers)


def kind_of(response: httpx.Response) -> str:
    provider = Provider("simulated")
    return from_response(provider, response.status_code, response.headers, response.content, now=datetime.now(UTC)).kind


@pytest.mark.parametrize("path", PATHS)
async def test_a_prompt_above_the_context_is_refused_on_each_wire(path: str, simulator: tuple[Simulator, str]) -> None:
    server, url = simulator
    assert (await post(url, path, ("user", "hello"))).status_code == 200
    refused = await post(url, path, ("user", LONG))
    assert kind_of(refused) == "context_overflow"
    assert server.overflows == 1


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_to_say_so_is_understood(way: str, simulator: tuple[Simulator, str]) -> None:
    _, url = simulator
    assert kind_of(await post(url, PATHS[0], ("user", f"hello [[context=0 too_long={way}]]"))) == "context_overflow"


async def test_a_server_that_cuts_says_nothing_and_counts_what_is_left(simulator: tuple[Simulator, str]) -> None:
    _, url = simulator
    answer = (await post(url, PATHS[0], ("user", f"{LONG} [[context=40 too_long=cut]]"))).json()
    assert answer["usage"]["prompt_tokens"] == 40


def text_of(answer: httpx.Response) -> str:
    said = msgspec.json.decode(answer.content)
    return str(said["choices"][0]["message"]["content"])


async def test_a_summary_says_what_it_stands_for_and_which_one_it_is(simulator: tuple[Simulator, str]) -> None:
    server, url = simulator
    asked = [("user", "hello [[fail=500]]"), ("assistant", "Hi!"), ("user", f"more\n\n{INSTRUCTION}")]
    assert text_of(await post(url, PATHS[0], *asked)) == "[summary 1: 3 messages, 0 steps taken]"
    again = [("user", "[summary 1: 3 messages, 0 steps taken]"), ("assistant", "Hi!"), ("user", INSTRUCTION)]
    assert text_of(await post(url, PATHS[0], *again)) == "[summary 2: 2 messages, 0 steps taken]"
    assert server.summaries == 2


@pytest.mark.parametrize("path", PATHS)
async def test_after_a_summary_what_was_too_long_is_answered(path: str, simulator: tuple[Simulator, str]) -> None:
    _, url = simulator
    summary = f"{HEADING[:20]} [summary 1: 2 messages, 0 steps taken]"
    asked = ("user", f"{summary}\n\nmore [[context=0 too_long=openai]]")
    assert (await post(url, path, asked)).status_code == 200


def test_a_turn_that_is_summarised_in_its_middle_goes_on_with_its_next_step() -> None:
    """The summary tells how many steps were taken, so an order for one of them is not followed twice."""
    order = ("user", "Look [[call=look {}]] [[step=2 say=Seen]]")
    step = (("call", "{}", "look"), ("result", "blue", "look"))
    before = Question(spoken=tuple(Spoken(*one) for one in (order, *step, ("user", INSTRUCTION))), request=b"")
    assert before.summary == "[summary 1: 3 messages, 1 steps taken]"
    after = Question(spoken=(Spoken("user", f"{before.summary}\n\n{order[1]}"),), request=b"")
    assert (after.step, read_script(after.prompt, Script(), step=after.step).words.say) == (2, "Seen")
    two = Question(spoken=(Spoken("user", before.summary), Spoken(*order)), request=b"")
    assert two.step == 2, "also where it is a message of its own"
