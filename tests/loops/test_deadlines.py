"""The sweep of deadlines: a turn whose people and clients stay away goes on alone, whatever happens to replicas."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import CLIENT, assistant

from chatcluster.chat import CommitStep, Fence, OpenCall, SubmitToolResults, ToolResult, claimed
from chatcluster.families import CHATS_MAX
from chatcluster.memory import MemoryStore
from chatcluster.parts import CONTENT_VERSION, NewMessage, Role, TextPart
from chatcluster.ports import NewChat
from chatcluster.ports.families import Undone
from loops.cluster_world import OWNER, Chat, World

WAIT_SECONDS = 300.0
SWEPT_SECONDS = 2.0
"""After its deadline a call is answered within so many."""


async def waiting_chat(world: World) -> Chat:
    """A chat whose client has a call to run, as an owner left it."""
    store, chat_id, worker_id = MemoryStore(world.database), uuid4(), uuid4()
    await store.create(NewChat(chat_id, OWNER, "", None, (NewMessage(Role.USER, (TextPart("hello"),)),)))
    row = world.database.row(chat_id)
    world.database.change(row, claimed(row.state, worker_id))
    step = CommitStep((assistant("looking", "call"),), (OpenCall("call", "tool", CLIENT, seconds=WAIT_SECONDS),))
    await store.commit(Fence(chat_id, worker_id, row.state.epoch, row.state.history_version), step)
    return Chat(world, chat_id)


async def test_a_turn_goes_on_alone_when_nobody_answers_in_time(world: World) -> None:
    chat = await waiting_chat(world)
    await world.cluster(2)
    await trio.sleep(WAIT_SECONDS - 1)
    assert chat.status == "requires_action"
    assert not chat.owner, "it holds no place while it waits"
    await trio.sleep(1 + SWEPT_SECONDS)
    assert chat.state.open_calls == ()
    assert len(chat.history) == 3
    (await world.model.next_call()).answer("Never mind.")
    await chat.until_status("waiting")


async def test_a_call_that_was_answered_in_time_is_not_answered_again(world: World) -> None:
    chat = await waiting_chat(world)
    a, _ = await world.cluster(2)
    await trio.sleep(WAIT_SECONDS - 1)
    await a.apply(chat, SubmitToolResults((ToolResult("call", "42"),)))
    (await world.model.next_call()).answer("42, then.")
    await chat.until_status("waiting")
    history = chat.history
    await trio.sleep(2 * WAIT_SECONDS)
    assert chat.history == history


async def test_a_replica_that_dies_in_mid_sweep_loses_no_call_and_answers_none_twice(world: World) -> None:
    chats = [await waiting_chat(world) for _ in range(3)]
    a, b = await world.cluster(2)
    swept = a.database_wire.hold_answer("expire_actions")
    b.database_wire.hold("expire_actions")
    await trio.sleep(WAIT_SECONDS)
    await swept.reached.wait()
    a.kill()
    b.database_wire.thaw()
    await world.replica()
    for chat in chats:
        await chat.until(lambda chat: not chat.state.open_calls, within=SWEPT_SECONDS)
        assert len(chat.history) == 3
    for _ in chats:
        (await world.model.next_call()).answer("Never mind.")
    for chat in chats:
        await chat.until_status("waiting")


async def test_deadlines_wait_for_postgres(world: World) -> None:
    chat = await waiting_chat(world)
    a = await world.replica()
    a.database_wire.cut = True
    await trio.sleep(WAIT_SECONDS + 10)
    assert chat.status == "requires_action"
    a.database_wire.cut = False
    await chat.until(lambda chat: not chat.state.open_calls, within=SWEPT_SECONDS)
    assert "deadlines.failed" in world.names_told()


async def test_p10_what_one_kind_of_work_meets_is_no_matter_of_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def undone(_store: MemoryStore, _limit: int) -> Undone:
        return Undone((uuid4(),), (uuid4(),), is_overdue=True)

    async def fail(_store: MemoryStore, _chat_id: UUID, **_: bool) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(MemoryStore, "undone", undone)
    monkeypatch.setattr(MemoryStore, "report_agents", fail)
    monkeypatch.setattr(MemoryStore, "obey", fail)
    chat = await waiting_chat(world)
    await world.replica(slots=0)
    await trio.sleep(WAIT_SECONDS)
    await chat.until(lambda chat: not chat.state.open_calls, within=SWEPT_SECONDS)
    crashed = [fields["of"] for name, fields in world.told if name == "deadlines.crashed"]
    assert crashed[:2] == ["reports", "orders"]


async def test_many_deadlines_at_once_take_no_longer_than_one(world: World) -> None:
    chats = [await waiting_chat(world) for _ in range(2 * CHATS_MAX + 1)]
    await world.replica(slots=0)
    await trio.sleep(WAIT_SECONDS + SWEPT_SECONDS)
    assert not any(chat.state.open_calls for chat in chats)


@pytest.mark.parametrize("interrupt", [False, True], ids=["running", "interrupting"])
async def test_a_chat_that_a_newer_version_wrote_into_is_given_back_and_not_claimed_again(
    world: World, interrupt: bool
) -> None:
    """A replica that cannot read it does not answer with holes, and does not spin."""
    a = await world.replica()
    chat, call, _ = await world.answering(a)
    row = chat.row
    row.state = msgspec.structs.replace(row.state, content_version=CONTENT_VERSION + 1)
    if interrupt:
        await a.interrupt(chat)
    else:
        call.finish()
    await chat.until(lambda chat: chat.owner is None)
    epoch = chat.epoch
    await trio.sleep(30)
    assert (chat.epoch, chat.owner) == (epoch, None)
    row.state = msgspec.structs.replace(row.state, content_version=CONTENT_VERSION)
    if not interrupt:
        (await world.model.next_call()).answer("Half an answer, and the rest.")
    await chat.until_status("waiting")
