"""P10: what the database cannot do for one chat ends that chat's turn, and neither the replica nor other chats."""

from __future__ import annotations

from typing import Any

import pytest

from chatcluster.chat import Fence, FinishTurn, OwnerCommand
from chatcluster.errors import StoreFailed
from chatcluster.ports import Outcome
from loops.cluster_world import SimulatedReplica, World


def refuse(owner: SimulatedReplica, monkeypatch: pytest.MonkeyPatch, refused: type | tuple[type, ...]) -> None:
    commit = owner.store.commit

    async def refuse_some(fence: Fence, command: OwnerCommand, **rest: Any) -> Outcome:
        if isinstance(command, refused):
            raise StoreFailed("Postgres: the value is out of range")
        return await commit(fence, command, **rest)

    monkeypatch.setattr(owner.store, "commit", refuse_some)


async def test_an_answer_that_cannot_be_stored_ends_its_turn_in_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not repeated for ever, as it would be if the database were away."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    reader.view.words_may_be_lost = True
    refuse(owner, monkeypatch, FinishTurn)
    call.answer(" of no use.")
    await reader.until_line("error internal")
    assert chat.owner is None
    assert owner.registered


async def test_a_chat_that_cannot_be_written_at_all_is_no_end_of_its_replica(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await world.replica()
    _, call, reader = await world.answering(owner)
    reader.view.words_may_be_lost = True
    with monkeypatch.context() as patches:
        refuse(owner, patches, object)
        call.answer(" of no use.")
        await world.until(lambda: "runner.crashed" in world.names_told())
    another = await owner.create("are you alive?")
    (await world.model.next_call()).answer("Yes.")
    await another.until_status("waiting")
    assert owner.registered
