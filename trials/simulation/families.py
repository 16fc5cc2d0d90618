"""Chats that have agents: what the provider asks of them, and what has to hold of a family in the end.

* Each call that spawned made one agent (P7), and each agent comes to rest (P4).
* What a wait was told of an agent that rests is what that one said (P7).
* Who is archived at the root is archived below it, and nobody else; no order is left (P5).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random
from uuid import UUID

from checker import Kind

from chatcluster import agents
from chatcluster.chat import Status
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import Message, Role, ToolCallPart, ToolResultPart, text_of

SPAWNS = 0.4
OTHERS = (*[agents.WAIT] * 5, agents.MESSAGE, agents.INTERRUPT, agents.CLOSE, agents.LIST)

Violate = Callable[[Kind, UUID, str], None]


def agents_in(messages: Sequence[Message]) -> list[str]:
    """The agents that the model was told of, by their IDs."""
    return [told["chat_id"] for _, told in _told(messages, agents.SPAWN) if "chat_id" in told]


def asked_of_agents(draw: Random, call_id: str, known: list[str]) -> tuple[str, str]:
    """The name and the arguments of a call that is about agents."""
    if not known or draw.random() < SPAWNS:
        return agents.SPAWN, json.dumps({"prompt": f"task of {call_id}"})
    name, arguments = draw.choice(OTHERS), {"chat_id": draw.choice(known)}
    if name == agents.LIST:
        return name, "{}"
    if name == agents.WAIT:
        return name, json.dumps({**arguments, "timeout_seconds": draw.choice((1, 300))})
    if name == agents.MESSAGE:
        return name, json.dumps({**arguments, "message": f"more of {call_id}", "interrupt": draw.random() < 0.5})
    return name, json.dumps(arguments)


def with_agents(database: MemoryDatabase, chats: Sequence[UUID]) -> list[UUID]:
    """These chats and all agents below them."""
    return [*chats, *(agent_id for agent_id, kin in database.kept.families.kin.items() if kin.root_id in chats)]


def check_families(database: MemoryDatabase, violate: Violate) -> None:
    tasks: Counter[str] = Counter()
    for agent_id, kin in database.kept.families.kin.items():
        row, root = database.chats[agent_id], database.chats[kin.root_id]
        tasks[text_of(row.messages[1].parts)] += 1
        if row.state.worker_id is not None or row.state.status not in (Status.WAITING, Status.ERROR):
            violate(Kind.STUCK, agent_id, f"an agent that is {row.state.status}")
        if row.state.archived != root.state.archived:
            violate(
                Kind.UNSTOPPED, agent_id, f"archived is {row.state.archived}, and {root.state.archived} at the root"
            )
    for task, count in tasks.items():
        if count > 1:
            violate(Kind.RUN_TWICE, UUID(int=0), f"{count} agents for {task!r}")
    for chat_id, order in database.kept.families.orders.items():
        violate(Kind.UNSTOPPED, chat_id, f"the order {order} was not carried out")
    for row in database.chats.values():
        _check_reports(database, row, violate)


def _check_reports(database: MemoryDatabase, row: ChatRow, violate: Violate) -> None:
    for call_id, told in _told(row.messages, agents.WAIT):
        if "report" not in told or "timed_out" in told:
            continue
        agent = database.chats[UUID(told["chat_id"])]
        said = {text_of(message.parts) for message in agent.messages if message.role is Role.ASSISTANT}
        # One that failed, or was stopped, had said nothing yet; what it says may be the answer to a later message.
        asked_again = sum(message.role is Role.USER for message in agent.messages) > 1
        silent = not told["report"] and (not said or told["status"] == Status.ERROR or asked_again)
        if told["report"] not in said and not silent:
            violate(Kind.RESULT, row.id, f"{call_id} was told {told['report'][:80]!r}, which {agent.id} never said")


def _told(messages: Sequence[Message], name: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What the calls of a tool gave, where that can be understood."""
    parts = [part for message in messages for part in message.parts]
    calls = {part.id for part in parts if isinstance(part, ToolCallPart) and part.name == name}
    for part in parts:
        if isinstance(part, ToolResultPart) and part.call_id in calls and "{" in part.text:
            try:
                yield part.call_id, json.loads(part.text[part.text.index("{") :])
            except json.JSONDecodeError:
                continue  # cut, as it was too long
