"""A transition that lets a chat run may claim it, for a worker that has a place: in every ``Store``."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest
from chat_states import assistant, text, user
from contract_worlds import OWNER, World, Worlds, fence_of, texts

from chatcluster.chat import (
    Archive,
    Busy,
    CallState,
    CommitStep,
    Compact,
    Edit,
    ErrorInfo,
    Fail,
    FinishTurn,
    Interrupt,
    OpenCall,
    Send,
    Status,
    SubmitToolResults,
    ToolResult,
    claimed,
    state_with,
    stored_of,
)
from chatcluster.parts import CONTENT_VERSION
from chatcluster.ports import Chat, Idempotency, NewChat, Outcome

ANSWER = FinishTurn((assistant("hi"),))
AGAIN = Send(text("again"))
KEY = Idempotency("key", b"digest")


pytest_plugins = ["contract_fixtures"]


async def resting(world: World, *, answer: FinishTurn | Fail = ANSWER) -> Chat:
    await world.chat()
    return (await world.store.commit(fence_of((await world.claim()).chat), answer)).chat


async def send(world: World, chat: Chat, claimer: UUID, key: Idempotency | None = None) -> Outcome:
    return await world.store.apply(chat.id, AGAIN, owner_id=OWNER, idempotency=key, claimer=claimer)


def is_unclaimed(outcome: Outcome) -> bool:
    return outcome.claimed is None and outcome.chat.worker_id is None and outcome.chat.claimable


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "with a key"])
async def test_a_message_to_a_chat_at_rest_claims_it(world: World, key: Idempotency | None) -> None:
    """P2: as a claim after it would, in one transaction, which has one version."""
    beside, rests, worker = await resting(world), await resting(world), await world.worker()
    plain = await world.store.apply(beside.id, AGAIN, owner_id=OWNER)
    (apart,) = await world.store.claim(worker, free_slots=9, batch=9)
    outcome = await send(world, rests, worker, key)
    assert outcome.claimed is not None
    chat = outcome.claimed.chat
    assert outcome.chat == chat == await world.store.get(rests.id)
    ruled = stored_of(claimed(state_with(plain.chat, (), ()), worker))
    assert stored_of(apart.chat) == ruled
    assert stored_of(chat) == ruled | {"snapshot_version": plain.chat.snapshot_version}
    assert (outcome.claimed.prompts, outcome.claimed.wait_seconds) == (apart.prompts, 0)
    assert [message.revision for message in outcome.messages] == [chat.history_version] == [chat.snapshot_version]
    assert texts(await world.history(rests.id)) == ["hello", "hi", "again"]
    assert await world.store.claim(worker, free_slots=9, batch=9) == ()
    ended = await world.store.commit(fence_of(chat), ANSWER, known=chat)
    assert ended.chat.status is Status.WAITING


@pytest.mark.parametrize("prompt", ["", "Be brief."], ids=["plain", "with a prompt"])
async def test_a_new_chat_is_claimed_with_its_first_message(world: World, prompt: str) -> None:
    worker = await world.worker()
    new = NewChat(uuid4(), OWNER, "a chat", None, (user("hello"),), system_prompt=prompt)
    outcome = await world.store.create(new, claimer=worker)
    assert outcome.claimed is not None
    chat = outcome.claimed.chat
    assert outcome.chat == chat == await world.store.get(new.id)
    assert (chat.worker_id, chat.epoch, chat.attempt, chat.takeovers) == (worker, 1, 1, 1)
    assert (chat.snapshot_version, chat.history_version, chat.cause) == (1, 1, "claim")
    assert outcome.claimed.prompts.own == (prompt or None)
    assert (await world.store.commit(fence_of(chat), ANSWER, known=chat)).chat.status is Status.WAITING


@pytest.mark.parametrize("messages", [(), (assistant("hi"),)], ids=["empty", "nothing to answer"])
async def test_a_new_chat_at_rest_is_not_claimed(world: World, messages: tuple[msgspec.Struct, ...]) -> None:
    new = NewChat(uuid4(), OWNER, "a chat", None, messages)  # type: ignore[arg-type]
    outcome = await world.store.create(new, claimer=await world.worker())
    assert (outcome.claimed, outcome.chat.worker_id, outcome.chat.status) == (None, None, Status.WAITING)


async def test_an_edit_and_the_last_result_claim_as_well(world: World) -> None:
    worker = await world.worker()
    rests = await resting(world)
    first = (await world.store.read(rests.id)).messages[0]
    edited = await world.store.apply(rests.id, Edit(first.id, text("better")), owner_id=OWNER, claimer=worker)
    assert edited.claimed is not None
    chat = edited.claimed.chat
    assert chat == await world.store.get(rests.id)
    calls = tuple(OpenCall(name, "ask", CallState.CLIENT) for name in "ab")
    step = CommitStep((assistant("looking", "a", "b"),), calls)
    asked = (await world.store.commit(fence_of(chat), step)).chat
    assert asked.status is Status.REQUIRES_ACTION
    for name, is_last in (("a", False), ("b", True)):
        submit = SubmitToolResults((ToolResult(name, "42"),))
        outcome = await world.store.apply(rests.id, submit, owner_id=OWNER, claimer=worker)
        assert (outcome.claimed is not None) is is_last
    assert (outcome.chat.worker_id, outcome.chat.epoch, outcome.chat.status) == (worker, chat.epoch + 1, "running")
    assert (await world.store.commit(fence_of(outcome.chat), ANSWER)).chat.status is Status.WAITING


async def test_a_repeat_is_told_what_the_first_did_and_claims_nothing(world: World) -> None:
    """P1: whoever repeats a request does not know whether it was carried out."""
    rests, worker, other = await resting(world), await world.worker(), await world.worker()
    first = await send(world, rests, worker, KEY)
    again = await send(world, rests, other, KEY)
    assert (again.replayed, again.claimed) == (True, None)
    assert again.messages == first.messages
    assert again.chat.worker_id == worker
    assert (await world.store.get(rests.id)).epoch == first.chat.epoch


# --- where it does not ------------------------------------------------------------------------


async def test_nobody_is_claimed_before_a_chat_that_waits(world: World) -> None:
    """P10: to be answered, or to be interrupted."""
    first, second, worker = await resting(world), await resting(world), await world.worker()
    await world.chat()
    assert is_unclaimed(await send(world, first, worker))
    assert len(await world.store.claim(worker, free_slots=9, batch=9)) == 2
    waiting = await world.chat()
    await world.store.apply(waiting, Interrupt(), owner_id=OWNER)
    assert is_unclaimed(await send(world, second, worker))
    new = NewChat(uuid4(), OWNER, "a chat", None, (user("hello"),))
    assert is_unclaimed(await world.store.create(new, claimer=worker))


async def test_a_chat_that_waits_for_a_newer_version_keeps_nobody_waiting(world: World) -> None:
    rests, worker, newer = await resting(world), await world.worker(), await world.chat()
    await world.have_content(newer, CONTENT_VERSION + 1)
    assert (await send(world, rests, worker)).claimed is not None


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "with a key"])
async def test_a_worker_that_is_not_registered_claims_nothing(world: World, key: Idempotency | None) -> None:
    """P2: it was buried meanwhile. The message is there all the same (P1)."""
    rests, worker = await resting(world), await world.worker()
    await world.registry.bury(worker, None)
    assert is_unclaimed(await send(world, rests, worker, key))
    new = NewChat(uuid4(), OWNER, "a chat", None, (user("hello"),))
    assert is_unclaimed(await world.store.create(new, claimer=worker))


async def test_a_worker_that_is_being_buried_claims_nothing(world: World) -> None:
    rests, worker = await resting(world), await world.worker()
    async with world.lock_row(worker):
        assert is_unclaimed(await send(world, rests, worker))


async def test_where_users_have_a_limit_chats_are_claimed_by_turns(worlds: Worlds) -> None:
    """P10"""
    async with worlds(user_chats_max=2) as world:
        rests, worker = await resting(world), await world.worker()
        assert is_unclaimed(await send(world, rests, worker))
        new = NewChat(uuid4(), OWNER, "a chat", None, (user("hello"),))
        assert is_unclaimed(await world.store.create(new, claimer=worker))


@pytest.mark.parametrize("busy", list(Busy))
async def test_a_chat_at_work_is_left_to_its_owner(world: World, busy: Busy) -> None:
    chat_id = await world.chat()
    chat, worker = (await world.claim()).chat, await world.worker()
    if busy is not Busy.REJECT:
        outcome = await world.store.apply(chat_id, Send(text("more"), busy), owner_id=OWNER, claimer=worker)
        assert outcome.claimed is None
    assert (await world.store.get(chat_id)).worker_id == chat.worker_id


async def test_a_chat_that_may_have_lost_an_owner_is_claimed_by_itself(world: World) -> None:
    """So that the log of takeovers tells who took it up."""
    failed, worker = await resting(world, answer=Fail(ErrorInfo("bad", "bad"))), await world.worker()
    assert is_unclaimed(await send(world, failed, worker))
    await world.store.claim(worker, free_slots=9, batch=9)
    rests = await resting(world)
    compacting = await world.store.apply(rests.id, Compact(), owner_id=OWNER)
    assert is_unclaimed(compacting)
    edited = (await world.store.read(rests.id)).messages[0]
    outcome = await world.store.apply(rests.id, Edit(edited.id, text("better")), owner_id=OWNER, claimer=worker)
    assert is_unclaimed(outcome)


async def test_an_archived_chat_is_not_claimed(world: World) -> None:
    rests, worker = await resting(world), await world.worker()
    archived = await world.store.apply(rests.id, Archive(), owner_id=OWNER, claimer=worker)
    assert (archived.claimed, archived.chat.worker_id) == (None, None)


# --- and after --------------------------------------------------------------------------------


async def test_what_a_dead_worker_had_claimed_with_a_message_is_free_again(world: World) -> None:
    """P4"""
    rests, worker = await resting(world), await world.worker()
    chat = (await send(world, rests, worker)).chat
    assert (await world.registry.renew(worker, draining=False)).owned[0].epoch == chat.epoch
    burial = await world.registry.bury(worker, None)
    assert burial is not None
    assert [freed.id for freed in burial.freed] == [rests.id]
    again = (await world.claim()).chat
    assert (again.epoch, again.takeovers, again.cause) == (chat.epoch + 1, 2, "takeover")


async def test_a_claim_on_another_timeline_leaps(world: World) -> None:
    """P3: the first write after a failover leaves behind what may be forgotten."""
    rests, worker = await resting(world), await world.worker()
    await world.write_on(7)
    outcome = await send(world, rests, worker)
    assert outcome.claimed is not None
    chat = outcome.claimed.chat
    assert (chat.timeline, chat.worker_id) == (7, worker)
    assert chat.snapshot_version > rests.snapshot_version + 10_000
    assert chat == await world.store.get(rests.id)
