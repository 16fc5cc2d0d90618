"""A chat that is too long, or that cannot be read, ends in an error that says so, and the others go on (P10)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from chatcluster import histories
from chatcluster.chat import Fence, Status
from chatcluster.errors import Unreadable
from chatcluster.memory import MemoryStore
from chatcluster.parts import Message, Role, TextPart
from chatcluster.ports import Approval, HistoryPage
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.scripted_tools import tool
from loops.tool_scenes import calling, finish

KILOBYTE = 1 << 10
SMALL: dict[str, Any] = {"history_bytes_max": 64 * KILOBYTE, "attempt_bytes_max": 64 * KILOBYTE}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[UUID, Exception]:
    """Why which history cannot be read."""
    why: dict[UUID, Exception] = {}
    read_history = MemoryStore.read_history

    async def read_or_fail(self: MemoryStore, chat_id: UUID, **page: Any) -> HistoryPage:
        if chat_id in why:
            raise why[chat_id]
        return await read_history(self, chat_id, **page)

    monkeypatch.setattr(MemoryStore, "read_history", read_or_fail)
    return why


async def send_to_a_longer_chat(world: World, replica: SimulatedReplica, chat: Chat, size_bytes: int) -> None:
    """Before the history is read somebody makes it longer, behind everybody's back."""
    held = replica.database_wire.hold("read_history")
    await replica.send(chat, "go on")
    await held.reached.wait()
    row = chat.row
    for _ in range(size_bytes // (4 * KILOBYTE)):
        parts = (TextPart("x" * 4 * KILOBYTE),)
        message_id, now = next(world.database.ids), world.database.now()
        row.messages.append(Message(message_id, Role.USER, parts, row.state.history_version, now))
    held.release()


def code_of(chat: Chat) -> str:
    assert chat.state.last_error is not None
    return chat.state.last_error.code


# --- what cannot be read ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [(Unreadable("a message that nobody can read"), "unreadable"), (RecursionError(), "internal")],
    ids=["unreadable", "unforeseen"],
)
async def test_a_history_that_cannot_be_read_ends_its_turn_and_no_other(
    world: World, failing: dict[UUID, Exception], error: Exception, code: str
) -> None:
    a = await world.replica()
    chat, other = await world.one_turn(a), await world.one_turn(a)
    failing[chat.id] = error
    await a.send(chat, "go on")
    await chat.until_status("error")
    assert code_of(chat) == code
    await world.exchange(a, other, "and you?", "Fine.")


async def test_a_takeover_finishes_an_interruption_of_a_chat_that_cannot_be_read(
    world: World, failing: dict[UUID, Exception]
) -> None:
    """P5: what was said is kept. Of the model that said it no more is known than what the chat says."""
    a, _ = await world.cluster(2)
    chat, _, _ = await world.answering(a, "Half an")
    failing[chat.id] = Unreadable("a message that nobody can read")
    a.kill()
    await world.others(a)[0].interrupt(chat)
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Half an"]


async def test_an_unforeseen_failure_of_a_claim_ends_no_chat(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a = await world.replica(claim_poll_seconds=1.0)
    chat, call, _ = await world.answering(a)

    async def fail(*_: object, **__: object) -> None:
        raise RecursionError

    with monkeypatch.context() as broken:
        broken.setattr(a.store, "claim", fail)
        other = await a.create("another")
        await trio.sleep(5)
        call.finish()
        await chat.until_status("waiting")
    (await world.model.next_call()).answer("Yes.")
    await other.until_status("waiting")
    assert len(a.incarnations) == 1


# --- what is too long -------------------------------------------------------------------------


async def test_a_history_that_is_too_long_ends_its_turn_and_says_what_to_do(world: World) -> None:
    a = await world.replica(**SMALL)
    chat, other = await world.one_turn(a), await world.one_turn(a)
    await send_to_a_longer_chat(world, a, chat, 200 * KILOBYTE)
    await chat.until_status("error")
    assert code_of(chat) == "history_too_large"
    assert chat.state.last_error is not None
    assert "edit an earlier message" in chat.state.last_error.message
    await world.exchange(a, other, "and you?", "Fine.")


async def test_long_histories_wait_for_each_other_and_short_ones_for_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica holds so many bytes of long histories at a time, and gives back a chat that it has no place for."""
    monkeypatch.setattr(histories, "PAGE_BYTES", 8 * KILOBYTE)
    monkeypatch.setattr("chatcluster.replica.LONG_HISTORIES_BYTES", 140 * KILOBYTE)
    a = await world.replica(**SMALL)
    first, second, short = [await world.one_turn(a) for _ in range(3)]
    await send_to_a_longer_chat(world, a, first, 40 * KILOBYTE)
    call = await world.model.next_call()
    await send_to_a_longer_chat(world, a, second, 40 * KILOBYTE)
    await world.exchange(a, short, "and you?", "Fine.")
    epoch = second.epoch
    await second.until(lambda chat: chat.epoch > epoch)
    assert world.model.idle()
    call.answer("Done.")
    await first.until_status("waiting")
    (await world.model.next_call()).answer("Done as well.")
    await second.until_status("waiting")


async def test_a_user_has_two_long_histories_at_a_time_where_a_chat_may_have_nearly_half_of_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "PAGE_BYTES", 8 * KILOBYTE)
    monkeypatch.setattr("chatcluster.replica.LONG_HISTORIES_BYTES", 280 * KILOBYTE)
    a = await world.replica(**SMALL)
    first, second = [await world.one_turn(a) for _ in range(2)]
    await send_to_a_longer_chat(world, a, first, 40 * KILOBYTE)
    call = await world.model.next_call()
    epoch = first.epoch
    await send_to_a_longer_chat(world, a, second, 40 * KILOBYTE)
    (await world.model.next_call()).answer("Done beside it.")
    await second.until_status("waiting")
    assert first.epoch == epoch
    call.answer("Done.")
    await first.until_status("waiting")


async def test_a_row_that_turns_unreadable_ends_the_tenure_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    bystander, second_call, watcher = await world.answering(owner, "I saw")
    reader.leave()
    commit, get = MemoryStore.commit, MemoryStore.get

    async def commit_or_fail(self: MemoryStore, fence: Fence, *arguments: Any, **more: Any) -> Any:
        if fence.chat_id == chat.id:
            raise Unreadable("a status that nobody knows")
        return await commit(self, fence, *arguments, **more)

    async def get_or_fail(self: MemoryStore, chat_id: UUID) -> Any:
        if chat_id == chat.id:
            raise Unreadable("a status that nobody knows")
        return await get(self, chat_id)

    monkeypatch.setattr(MemoryStore, "commit", commit_or_fail)
    monkeypatch.setattr(MemoryStore, "get", get_or_fail)
    await owner.send(chat, "and a hint")
    call.answer(" answer")
    await trio.sleep(1)
    second_call.answer(" nothing")
    await watcher.until_status("waiting")
    assert bystander.history == ["user: hello", "assistant: I saw nothing"]
    assert "chat.unreadable" in world.names_told()
    assert "runner.crashed" not in world.names_told()

    monkeypatch.undo()  # as when a newer version has taken its word back
    (await world.model.next_call()).answer("Whole")
    (await world.model.next_call()).answer("Also")
    await chat.until_status("waiting")


# --- those who read ---------------------------------------------------------------------------


async def test_readers_stay_while_the_row_of_their_chat_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a newer version has put it into a status that this one does not know."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    read_newer = MemoryStore.read_newer

    async def fail(*_: Any, **__: Any) -> Any:
        raise Unreadable("a status that nobody knows")

    monkeypatch.setattr(MemoryStore, "read_newer", fail)
    call.answer(" answer")
    await chat.until_status("waiting")
    await trio.sleep(10)
    monkeypatch.setattr(MemoryStore, "read_newer", read_newer)
    await reader.until_status("waiting")
    assert reader.history == chat.history
    assert "feed.crashed" not in world.names_told()


# --- calls that were ended without results -----------------------------------------------------


async def ended_without_results(world: World, replica: SimulatedReplica) -> Chat:
    """As a chat that cannot be read is ended: its calls are done, and history has no results of them."""
    chat = await calling(world, replica, "c1", tools=(tool("tool", approval=Approval.ASK),))
    await chat.until_status("requires_action")
    world.database.change(chat.row, msgspec.structs.replace(chat.state, status=Status.ERROR, open_calls=()))
    return chat


async def test_a_chat_whose_calls_were_ended_without_results_goes_on_with_the_next_message(world: World) -> None:
    a = await world.replica()
    chat = await ended_without_results(world, a)
    await a.send(chat, "go on")
    await finish(world, chat)
    assert (chat.history[-2:], chat.results) == (["user: go on", "assistant: There."], {})


async def test_a_call_that_the_ledger_has_no_record_of_ends_the_turn_in_an_error(world: World) -> None:
    """It is not looked for again and again."""
    a = await world.replica()
    chat = await calling(world, a, "c1", tools=(tool("tool", approval=Approval.ASK),))
    await chat.until_status("requires_action")
    world.database.change(chat.row, msgspec.structs.replace(chat.state, status=Status.RUNNING, open_calls=()))
    await chat.until_status("error")
    assert code_of(chat) == "internal"
    assert "chat.call_unrecorded" in world.names_told()
    await a.send(chat, "go on")
    await finish(world, chat)
