"""What is changed in a chat beside its turn, as a title or a queue is: the owner's work goes on, and costs no more."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
import trio

from chatcluster.chat import Fence, OwnerCommand
from chatcluster.memory.store import MemoryStore
from chatcluster.ports import Chat, Outcome
from loops.cluster_world import World


async def test_what_is_changed_beside_a_turn_costs_it_one_look(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A title, as a rule. The end of the turn is decided on the row as it is then, so one statement writes it."""
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "Half an")
    looks, known_versions = Counter[str](), list[tuple[int, int]]()
    get, commit = MemoryStore.get, MemoryStore.commit

    async def counted(store: MemoryStore, chat_id: UUID) -> Chat:
        looks["get"] += 1
        return await get(store, chat_id)

    async def observed(store: MemoryStore, fence: Fence, command: OwnerCommand, **more: Any) -> Outcome:
        known_versions.append((more["known"].snapshot_version, chat.state.snapshot_version))
        return await commit(store, fence, command, **more)

    monkeypatch.setattr(MemoryStore, "get", counted)
    monkeypatch.setattr(MemoryStore, "commit", observed)
    await other.rename(chat, "a title")
    await trio.sleep(10)
    assert looks["get"] == 1
    call.answer(" answer")
    await chat.until_status("waiting")
    ((known, there),) = known_versions
    assert known == there
