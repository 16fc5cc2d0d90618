"""Families in a chaos run: chats whose model has agents work and waits for them, and what became of those.

In the end of each chat its agents have to rest as well, each was made once, and what the history says was spawned is
there (P4, P7). A family that does not come to rest is told of as stuck.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import trio
from checker import Kind, Violation

from chaos.api import Api, Json
from chatcluster.agents import SPAWN

SHARE = 0.25
"""So many of the messages that have the model call tools are about agents."""
AGENTS_MAX = 3
WORDS = "[[tokens=12 tps=20]\\u005d"  # in JSON: two brackets in a row would end the order that it is in
REST_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.25


def family_orders(draw: random.Random, word: str) -> str:
    """Blocks of a message that have the model spawn agents and wait for them, before it answers in its third step."""
    count = draw.randint(1, AGENTS_MAX)
    tasks = (json.dumps({"title": f"{word}{number}"})[:-1] for number in range(1, count + 1))
    spawns = (f' [[call={SPAWN} {task}, "prompt": "Task {WORDS}"}}]]' for task in tasks)
    waits = (f' [[step=2 call=wait_agent {{"chat_id": "$agent{number}"}}]]' for number in range(1, count + 1))
    return "".join((*spawns, *waits))


class Families:
    """The judge of families. ``report`` gets each violation."""

    def __init__(self, report: Callable[[Violation], None]) -> None:
        self.counts = Counter(families=0, agents=0, families_stuck=0)
        self._report = report

    async def judge(self, api: Api, chat: str, messages: Sequence[Json]) -> None:
        """The agents of a chat that rests."""
        agents = await self._at_rest(api, chat)
        stuck = [agent for agent in agents if not _rests(agent)]
        self.counts.update(families=bool(agents), agents=len(agents), families_stuck=bool(stuck))
        for agent in stuck:
            self._violate(Kind.STUCK, chat, f"its agent {agent['id']} is {agent['status']}")
        for title, count in Counter(agent["title"] for agent in agents).items():
            if count > 1:
                self._violate(Kind.RUN_TWICE, chat, f"{count} agents were made for {title!r}")
        ids = {agent["id"] for agent in agents}
        for chat_id in spawned(messages) - ids:
            self._violate(Kind.RESULT, chat, f"{chat_id} was spawned, and is no agent of the chat")

    async def _at_rest(self, api: Api, chat: str) -> list[Json]:
        agents = await _agents(api, chat)
        with trio.move_on_after(REST_SECONDS_MAX):
            while not all(map(_rests, agents)):
                await trio.sleep(LOOK_SECONDS)
                agents = await _agents(api, chat)
        return agents

    def _violate(self, kind: Kind, chat: str, detail: str) -> None:
        self._report(Violation(kind, chat, detail))


async def _agents(api: Api, chat: str) -> list[Json]:
    agents: list[Json] = (await api.read(f"/chats/{chat}/children"))["chats"]
    return agents


def _rests(agent: Json) -> bool:
    return agent["status"] in ("waiting", "error")


def spawned(messages: Sequence[Json]) -> set[str]:
    """The agents that the history says were made."""
    parts: list[dict[str, Any]] = [part for message in messages for part in message["parts"]]
    calls = {part["id"] for part in parts if part["type"] == "tool_call" and part["name"] == SPAWN}
    results = (part for part in parts if part["type"] == "tool_result" and part["call_id"] in calls)
    texts = ("".join(piece.get("text", "") for piece in part["content"]) for part in results if not part["is_error"])
    return {json.loads(text[text.index("{") :])["chat_id"] for text in texts}
