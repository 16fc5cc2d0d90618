"""The simulation's judge of P4: a chat that has work is served in time, and each tenure that began has served."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import msgspec
from chat_states import state_of
from checker import Kind
from simulation.vigil import LOOK_SECONDS, SERVED_SECONDS_MAX, Vigil

from chatcluster.chat import ChatSetup, Status, claimed
from chatcluster.memory import MemoryDatabase
from chatcluster.memory.tables import ChatRow

CHAT = UUID(int=1)


@dataclass(eq=False)
class Process:
    """A replica, as far as the vigil looks at it."""

    fit: bool = False
    in_touch: bool = False
    worker_id: UUID = field(default_factory=uuid4)
    chats: set[UUID] = field(default_factory=set)

    def runs(self, chat_id: UUID) -> bool:
        return chat_id in self.chats


class World:
    """One chat that has work, and somebody idle who could do it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.found: list[Kind] = []
        self.processes = SimpleNamespace(present=[Process(fit=True, in_touch=True)], past=[])
        self.weather = SimpleNamespace(fair=True)
        database = MemoryDatabase(lambda: self.now)
        state = state_of(Status.RUNNING, worker_id=None)
        self.row = ChatRow(
            CHAT, uuid4(), ChatSetup("", None), state, created_at=database.now(), updated_at=database.now()
        )
        database.chats[CHAT] = self.row
        self.witness = SimpleNamespace(
            database=database,
            harmed=SimpleNamespace(chats=set()),
            name_of=str,
            violate=lambda kind, *_: self.found.append(kind),
        )
        world: Any = self
        self._vigil = Vigil(world)

    def claim(self, *, runs: bool = True, in_touch: bool = False) -> None:
        """A process takes the chat; it is out of touch by the next look, unless it is said to be ``in_touch``."""
        owner = Process(in_touch=in_touch, chats={CHAT} if runs else set())
        self.processes.present.append(owner)
        self.row.state = claimed(self.row.state, owner.worker_id)

    def look_for(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.now += LOOK_SECONDS
            self._vigil._look()


def test_p4_a_chat_that_nobody_serves_is_found_after_the_bound_and_said_once() -> None:
    world = World()
    world.look_for(SERVED_SECONDS_MAX)
    assert world.found == []
    world.look_for(2 * SERVED_SECONDS_MAX)
    assert world.found == [Kind.STUCK]


def test_p4_an_owner_that_falls_out_of_touch_leaves_the_bound_to_the_next() -> None:
    """Three in a row, each found dead in time: each served for a moment, which no look need have hit."""
    world = World()
    for _ in range(4):
        world.claim()
        world.look_for(SERVED_SECONDS_MAX - 1)
    assert world.found == []
    world.look_for(2)
    assert world.found == [Kind.STUCK]


def test_p4_claims_that_come_to_no_tenure_serve_nobody() -> None:
    world = World()
    for _ in range(4):
        world.claim(runs=False)
        world.look_for(SERVED_SECONDS_MAX - 1)
    assert world.found == [Kind.STUCK]


def test_p4_an_owner_in_touch_serves() -> None:
    world = World()
    world.claim(in_touch=True)
    world.look_for(4 * SERVED_SECONDS_MAX)
    world.row.state = msgspec.structs.replace(world.row.state, worker_id=None)
    world.look_for(SERVED_SECONDS_MAX)
    assert world.found == []


def test_p4_after_a_failover_the_bound_holds_anew() -> None:
    """Between two looks, too: whoever counted the silence of a dead owner begins again (seed 65415)."""
    world = World()
    world.claim()
    world.look_for(SERVED_SECONDS_MAX - 1)
    world.witness.database.fail_over()
    world.look_for(SERVED_SECONDS_MAX - 1)
    assert world.found == []
    world.look_for(2)
    assert world.found == [Kind.STUCK]
