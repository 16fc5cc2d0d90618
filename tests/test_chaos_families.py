"""The judge of families in a chaos run, and what has a model make them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, cast

import pytest
from chaos.api import Api
from chaos.families import Families, family_orders
from checker import Kind, Violation

from chatcluster.llm.simulator.script import Script, read_script


class Children:
    """An API that knows the agents of one chat."""

    def __init__(self, *agents: dict[str, Any]) -> None:
        self.agents = agents

    async def read(self, path: str) -> dict[str, Any]:
        assert path == "/chats/c/children"
        return {"chats": list(self.agents)}


def agent(chat_id: str, title: str = "one", status: str = "waiting") -> dict[str, Any]:
    return {"id": chat_id, "title": title, "status": status}


def history(*spawned: str) -> list[dict[str, Any]]:
    calls = [{"type": "tool_call", "id": one, "name": "spawn_agent", "arguments": "{}"} for one in spawned]
    content = [[{"type": "text", "text": json.dumps({"chat_id": one})}] for one in spawned]
    results = [
        {"type": "tool_result", "call_id": one, "content": text, "is_error": False}
        for one, text in zip(spawned, content, strict=True)
    ]
    return [{"parts": calls}, {"parts": results}]


async def judged(children: Children, messages: Sequence[dict[str, Any]]) -> tuple[list[Kind], Families]:
    found: list[Violation] = []
    families = Families(found.append)
    await families.judge(cast(Api, children), "c", messages)
    return [violation.kind for violation in found], families


async def test_agents_that_were_made_once_and_rest_are_right() -> None:
    found, families = await judged(Children(agent("a"), agent("b", "two", "error")), history("a", "b"))
    assert (found, families.counts) == ([], {"families": 1, "agents": 2, "families_stuck": 0})


async def test_p7_a_task_that_two_agents_have() -> None:
    found, _ = await judged(Children(agent("a"), agent("b")), history("a"))
    assert found == [Kind.RUN_TWICE]


async def test_p7_an_agent_that_is_not_there() -> None:
    found, _ = await judged(Children(agent("a")), history("a", "b"))
    assert found == [Kind.RESULT]


async def test_p4_an_agent_that_does_not_rest(autojump_clock: object) -> None:
    found, families = await judged(Children(agent("a", status="running")), history("a"))
    assert (found, families.counts["families_stuck"]) == ([Kind.STUCK], 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_model_spawns_waits_and_answers_then(seed: int) -> None:
    prompt = f"Question [[word=x tokens=3 step=3]]{family_orders(random.Random(seed), 'x')}"
    first, second, third = (read_script(prompt, Script(), step=step) for step in (1, 2, 3))
    assert len(first.calls) == len(second.calls) > 0
    tasks = [json.loads(call.arguments) for call in first.calls]
    assert [task["title"] for task in tasks] == [f"x{number}" for number in range(1, len(tasks) + 1)]
    assert {read_script(task["prompt"], Script()).words.tokens for task in tasks} == {12}
    assert (third.calls, third.text(prompt)[0]) == ((), 3)
