"""Known bugs in how chats work for each other, to plant: the simulation has to find them. See ``planted.py``."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

import msgspec
import trio

from chatcluster import agents, families
from chatcluster.memory import families as memory_families
from chatcluster.memory.families import MemoryFamilies
from chatcluster.tools import agents as agent_tools
from simulation.planted_harms import Patch


async def _nothing(*_: Any) -> int:
    await trio.lowlevel.checkpoint()
    return 0


def unreported() -> list[Patch]:
    """An agent comes to rest, and nobody tells who waits for it."""
    return [(families, "report", _nothing), (MemoryFamilies, "due_reports", _none_due)]


async def _none_due(*_: Any, **__: Any) -> tuple[()]:
    await trio.lowlevel.checkpoint()
    return ()


def unswept_families() -> list[Patch]:
    """What a replica did not live to do for other chats of a family is done by nobody."""
    return [(families, "_sweep", _nothing)]


def forgotten_orders() -> list[Patch]:
    """Who stops or archives a chat stops and archives that chat."""
    return [(MemoryFamilies, "_give_orders", lambda *_: None)]


def agents_by_chance() -> list[Patch]:
    """A call that is run again makes another agent."""
    agent_of, numbers = agents.agent_of, Random(1)

    def another(*asked: Any) -> Any:
        return msgspec.structs.replace(agent_of(*asked), id=UUID(int=numbers.getrandbits(128), version=4))

    return [(agent_tools, "agent_of", another)]


def any_report() -> list[Patch]:
    """Who waits for one agent is told of another."""
    report = agents.report

    def mistaken(call_id: str, agent_id: UUID, seen: agents.AgentSeen | None) -> Any:
        return report(call_id, agent_id, seen and seen._replace(text=f"{call_id} is done"))

    return [(memory_families, "report", mistaken)]


WITH_AGENTS: tuple[Callable[[], list[Patch]], ...] = (
    unreported,
    unswept_families,
    forgotten_orders,
    agents_by_chance,
    any_report,
)
