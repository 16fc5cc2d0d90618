"""Known bugs in how chats work for each other, to plant: the simulation has to find them. See ``planted.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import trio

from chatcluster import agents, families
from chatcluster.memory import families as memory_families
from chatcluster.memory.families import MemoryFamilies
from simulation.planted_harms import Patch


async def _nothing(*_: Any) -> int:
    await trio.lowlevel.checkpoint()
    return 0


def unreported() -> list[Patch]:
    """An agent comes to rest, and nobody tells who waits for it."""
    return [(families, "report", _nothing), (MemoryFamilies, "_due_reports", lambda _: [])]


def forgotten_orders() -> list[Patch]:
    """Who stops or archives a chat stops and archives that chat."""
    return [(MemoryFamilies, "_give_orders", lambda *_: None)]


def any_report() -> list[Patch]:
    """Who waits for one agent is told of another."""
    report = agents.report

    def mistaken(call_id: str, agent_id: UUID, seen: agents.AgentSeen | None) -> Any:
        return report(call_id, agent_id, seen and seen._replace(text=f"{call_id} is done"))

    return [(memory_families, "report", mistaken)]


WITH_AGENTS: tuple[Callable[[], list[Patch]], ...] = (
    unreported,
    forgotten_orders,
    any_report,
)
