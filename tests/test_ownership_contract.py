"""What every ``Store`` does for owners: claims, fences, commits that may be repeated, idempotency keys."""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import assistant, text, user
from contract_worlds import OWNER, World, fence_of, texts

from chatcluster.chat import (
    VERSIONS_RAISED,
    CallState,
    CommitStep,
    Edit,
    ErrorInfo,
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    KeepAnswer,
    OpenCall,
    OwnerCommand,
    Promote,
    Release,
    Retry,
    ScheduleRetry,
    Send,
    StartAttempt,
    Status,
    Underway,
)
from chatcluster.errors import Fenced, IdempotencyKeyReused, Moved, OwnershipError, QueuedMessageNotFound
from chatcluster.ports import Claimed, Idempotency, NewChat, Outcome

STRANGER = UUID(int=200)
ANSWER = FinishTurn((assistant("the answer"),))
RETRY = Retry(attempt=1, delay_ms=60_000, error="busy", kind="overloaded")


pytest_plugins = ["contract_fixtures"]


# --- claiming ---------------------------------------------------------------------------------


async def test_a_claim_opens_a_tenure_and_the_first_attempt(world: World) -> None:
    chat_id = await world.chat("wrong", "later")
    wrong = (await world.store.read(chat_id)).messages[0]
    await world.store.apply(chat_id, Edit(wrong.id, text("right")), owner_id=OWNER)
    worker = await world.worker()
    claimed = await world.claim(worker)
    chat = claimed.chat
    assert (chat.worker_id, chat.attempt, chat.status) == (worker, 1, Status.RUNNING)
    assert chat.epoch == chat.reset_version + 1
    assert (chat.snapshot_version, chat.history_version) == (3, 2)
    assert texts(await world.history(chat_id)) == ["right"]
    assert claimed.retry_seconds == 0
    assert await world.store.get(chat_id) == chat


async def test_of_10_concurrent_claimers_one_wins(world: World) -> None:
    """P2"""
    chat_id = await world.chat()
    workers = [await world.worker() for _ in range(10)]
    won: list[Claimed] = []

    async def claim(worker_id: UUID) -> None:
        won.extend(await world.store.claim(worker_id, free_slots=1, batch=1))

    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(claim, worker)
    assert [claimed.chat.epoch for claimed in won] == [1]
    assert won[0].chat == await world.store.get(chat_id)


async def test_concurrent_claimers_share_the_chats_without_overlap(world: World) -> None:
    """P2"""
    chat_ids = [await world.chat() for _ in range(12)]
    workers = [await world.worker() for _ in range(4)]
    won: list[UUID] = []

    async def claim(worker_id: UUID) -> None:
        while batch := await world.store.claim(worker_id, free_slots=2, batch=2):
            won.extend(claimed.chat.id for claimed in batch)

    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(claim, worker)
    assert sorted(won) == sorted(chat_ids)


async def test_the_chats_that_wait_longest_are_claimed_first_and_never_more_than_fit(world: World) -> None:
    chat_ids = [await world.chat() for _ in range(5)]
    worker = await world.worker()

    async def claim(free_slots: int, batch: int) -> list[UUID]:
        return sorted_as(chat_ids, await world.store.claim(worker, free_slots=free_slots, batch=batch))

    assert await claim(free_slots=0, batch=10) == []
    assert await claim(free_slots=2, batch=10) == chat_ids[:2]
    assert await claim(free_slots=10, batch=1) == chat_ids[2:3]
    assert await claim(free_slots=10, batch=10) == chat_ids[3:]
    assert await claim(free_slots=10, batch=10) == []


async def test_a_chat_keeps_its_place_in_the_order_while_it_waits(world: World) -> None:
    first, second = await world.chat(), await world.chat()
    await world.send(first, "and another thing")
    worker = await world.worker()
    (claimed,) = await world.store.claim(worker, free_slots=1, batch=1)
    assert claimed.chat.id == first
    await world.store.commit(fence_of(claimed.chat), Release())
    (claimed,) = await world.store.claim(worker, free_slots=1, batch=1)
    assert claimed.chat.id == second, "what was given back waits anew"


async def test_interrupting_chats_are_claimed_by_a_replica_that_is_full(world: World) -> None:
    """P5"""
    running, interrupting = await world.chat(), await world.chat()
    await world.store.apply(interrupting, Interrupt(), owner_id=OWNER)
    worker = await world.worker()
    (claimed,) = await world.store.claim(worker, free_slots=0, batch=10)
    assert (claimed.chat.id, claimed.chat.attempt) == (interrupting, 0)
    (other,) = await world.store.claim(worker, free_slots=1, batch=10)
    assert other.chat.id == running


async def test_nothing_is_claimed_for_a_worker_that_is_not_registered(world: World) -> None:
    """P2: a buried worker cannot own anything."""
    chat_id = await world.chat()
    assert await world.store.claim(uuid4(), free_slots=1, batch=1) == ()
    assert (await world.store.get(chat_id)).epoch == 0


async def test_chats_without_work_are_not_claimed(world: World) -> None:
    await world.chat()
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    await world.chat()
    await world.store.commit(fence_of((await world.claim()).chat), Fail(ErrorInfo("generic", "it failed")))
    await world.chat()
    asks = CommitStep((assistant("?", "call"),), (OpenCall("call", "tool", CallState.CLIENT),))
    await world.store.commit(fence_of((await world.claim()).chat), asks)
    assert await world.store.claim(await world.worker(), free_slots=9, batch=9) == ()


async def test_a_scheduled_retry_outlives_its_tenure(world: World) -> None:
    """P4: the next owner waits what is left, and does not count the wait as an attempt."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    waiting = await world.store.commit(fence_of(chat), ScheduleRetry(RETRY))
    assert waiting.chat.retry == (await world.store.get(chat_id)).retry == RETRY
    assert waiting.chat.retry_at is not None
    assert (waiting.chat.retry_at - waiting.chat.updated_at).total_seconds() == pytest.approx(60, abs=0.1)
    released = await world.store.commit(fence_of(waiting.chat), Release())
    assert released.chat.retry_at == waiting.chat.retry_at
    claimed = await world.claim()
    assert (claimed.chat.epoch, claimed.chat.attempt, claimed.chat.retry) == (2, 1, RETRY)
    assert 50 < claimed.retry_seconds <= 60
    started = await world.store.commit(fence_of(claimed.chat), StartAttempt())
    assert (started.chat.attempt, started.chat.retry, started.chat.retry_at) == (2, None, None)


async def test_p4_the_answer_of_an_attempt_is_kept_for_whoever_takes_the_chat_over(world: World) -> None:
    await world.chat()
    claimed = (await world.claim()).chat
    kept = (await world.store.commit(fence_of(claimed), KeepAnswer("resp_1"))).chat
    expected = Underway(claimed.history_version, 1, "resp_1")
    assert Underway.of(kept) == Underway.of(await world.store.get(kept.id)) == expected
    failed = (await world.store.commit(fence_of(kept), ScheduleRetry(RETRY))).chat
    assert (failed.failed_attempt, Underway.of(failed)) == (1, None), "an attempt that failed is not gone on with"
    again = (await world.store.commit(fence_of(failed), StartAttempt(2))).chat
    assert (again.failed_attempt, again.answer) == (1, "")
    kept = (await world.store.commit(fence_of(again), KeepAnswer("resp_2"))).chat
    done = (await world.store.commit(fence_of(kept), ANSWER)).chat
    assert (done.failed_attempt, done.answer) == (0, ""), "what belonged to one history ends with it"


# --- fences -----------------------------------------------------------------------------------

COMMITS: tuple[OwnerCommand, ...] = (
    StartAttempt(),
    KeepAnswer("resp_1"),
    ScheduleRetry(RETRY),
    CommitStep((assistant("a step"),)),
    ANSWER,
    FinishInterruption(assistant("half an ans", finish_reason="interrupted")),
    Fail(ErrorInfo("generic", "it failed")),
    Release(),
)


async def test_a_fenced_write_changes_nothing(world: World) -> None:
    """P2: not after a takeover, not by another worker, not by one that worked from older history."""
    chat_id = await world.chat()
    stale = fence_of((await world.claim()).chat)
    await world.store.commit(stale, Release())
    current = fence_of((await world.claim()).chat)
    before = await world.store.read(chat_id)
    for command in COMMITS:
        for fence, error in (
            (stale, Fenced),
            (msgspec.structs.replace(current, worker_id=stale.worker_id), Fenced),
            (msgspec.structs.replace(current, epoch=current.epoch + 1), Fenced),
            (msgspec.structs.replace(current, history_version=current.history_version - 1), Moved),
        ):
            with pytest.raises(error):
                await world.store.commit(fence, command)
    assert await world.store.read(chat_id) == before


async def test_a_status_that_moved_under_the_owner_refuses_its_commit(world: World) -> None:
    """P5: an interrupt is not run over by the answer that it came too late for."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    await world.store.apply(chat_id, Interrupt(), owner_id=OWNER)
    with pytest.raises(Moved):
        await world.store.commit(fence_of(chat), ANSWER)
    partial = assistant("half an ans", finish_reason="interrupted")
    finished = await world.store.commit(fence_of(chat), FinishInterruption(partial))
    assert (finished.chat.status, finished.chat.worker_id) == (Status.WAITING, None)


@pytest.mark.parametrize("lost", ["worker_id", "epoch", "history_version", "status"])
async def test_a_tenure_that_a_failover_lost_writes_nothing(world: World, lost: str) -> None:
    """P2: the server that took over knows another tenure, of the same number and at the same version."""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    other = {
        "worker_id": uuid4(),
        "epoch": chat.epoch + 1,
        "history_version": chat.history_version + 1,
        "status": Status.INTERRUPTING,
    }
    known = msgspec.structs.replace(chat, **{lost: other[lost]})
    command = ANSWER if known.status is Status.RUNNING else FinishInterruption(assistant("half"))
    before = await world.store.read(chat_id)
    with pytest.raises(OwnershipError):
        await world.store.commit(fence_of(known), command, known=known)
    assert await world.store.read(chat_id) == before


async def test_a_queued_message_does_not_fence_the_owner(world: World) -> None:
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    await world.send(chat_id, "later")
    finished = await world.store.commit(fence_of(chat), ANSWER)
    assert texts(finished.messages) == ["the answer", "later"]
    assert (finished.chat.worker_id, finished.chat.epoch) == (chat.worker_id, chat.epoch)


async def test_p2_a_commit_to_a_chat_that_is_lost_is_fenced(world: World) -> None:
    """As after a failover to a server that never had it: its owner has nothing to wait for."""
    await world.chat()
    fence = fence_of((await world.claim()).chat)
    with pytest.raises(Fenced):
        await world.store.commit(msgspec.structs.replace(fence, chat_id=uuid4()), ANSWER)


# --- idempotency keys -------------------------------------------------------------------------

KEY = Idempotency("key", b"digest".ljust(32))
SAME_KEY = Idempotency("key", b"of another request".ljust(32))


async def test_a_repeated_creation_returns_the_first_chat(world: World) -> None:
    def new(owner_id: UUID = OWNER) -> NewChat:
        return NewChat(uuid4(), owner_id, "a chat", None, (user("hello"),))

    assert await world.store.answered(OWNER, KEY) is None
    first = await world.store.create(new(), KEY)
    again = await world.store.create(new(), KEY)
    assert await world.store.answered(OWNER, KEY) == again
    assert (again.replayed, again.chat.id, again.messages) == (True, first.chat.id, first.messages)
    with pytest.raises(IdempotencyKeyReused):
        await world.store.create(new(), SAME_KEY)
    with pytest.raises(IdempotencyKeyReused):
        await world.store.answered(OWNER, SAME_KEY)
    assert len(await world.store.list_chats(OWNER, archived=None, limit=9, after=None)) == 1
    other = await world.store.create(new(STRANGER), KEY)
    assert not other.replayed, "keys belong to their users"


async def test_concurrent_requests_with_one_key_have_one_effect(world: World) -> None:
    """P1: a client that repeats a request in doubt sends its message once."""
    chat_id = await world.chat()
    outcomes: list[Outcome] = []

    async def send() -> None:
        outcomes.append(await world.store.apply(chat_id, Send(text("once")), owner_id=OWNER, idempotency=KEY))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(send)
    assert sorted(outcome.replayed for outcome in outcomes) == [False, True, True, True, True]
    read = await world.store.read(chat_id)
    assert {outcome.queued for outcome in outcomes} == set(read.queue)
    assert read.chat.snapshot_version == 2


async def test_a_repeat_returns_the_first_answer_whatever_the_chat_does_since(world: World) -> None:
    chat_id = await world.chat()
    finished = await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    assert finished.chat.status is Status.WAITING
    first = await world.store.apply(chat_id, Send(text("once")), owner_id=OWNER, idempotency=KEY)
    await world.store.commit(fence_of((await world.claim()).chat), ANSWER)
    again = await world.store.apply(chat_id, Send(text("once")), owner_id=OWNER, idempotency=KEY)
    assert again.replayed
    assert again.message == first.message
    with pytest.raises(IdempotencyKeyReused):
        await world.store.apply(chat_id, Send(text("twice")), owner_id=OWNER, idempotency=SAME_KEY)


async def test_a_refused_request_does_not_use_up_its_key(world: World) -> None:
    chat_id = await world.chat()
    with pytest.raises(QueuedMessageNotFound):
        await world.store.apply(chat_id, Promote(12345), owner_id=OWNER, idempotency=KEY)
    sent = await world.store.apply(chat_id, Send(text("hello")), owner_id=OWNER, idempotency=KEY)
    assert not sent.replayed


def sorted_as(order: list[UUID], claimed: tuple[Claimed, ...]) -> list[UUID]:
    """The chats that were claimed, in this order: a claim returns its chats in none."""
    return sorted((one.chat.id for one in claimed), key=order.index)


# --- a part stream that is ahead --------------------------------------------------------------


async def test_an_owner_goes_on_under_a_higher_epoch_and_the_lower_one_is_over(world: World) -> None:
    """P2, P5: the part stream has an epoch that Postgres does not know."""
    await world.chat()
    chat = (await world.claim()).chat
    assert chat.worker_id is not None
    raised = await world.store.raise_epoch(chat.id, chat.worker_id, epoch=chat.epoch, above=77)
    assert (raised.epoch, raised.worker_id, raised.attempt) == (77, chat.worker_id, chat.attempt)
    assert (raised.history_version, raised.status) == (chat.history_version, chat.status)
    assert raised == await world.store.get(chat.id)
    with pytest.raises(Fenced):
        await world.store.commit(fence_of(chat), ANSWER)
    outcome = await world.store.commit(fence_of(raised), ANSWER, known=raised)
    assert texts(outcome.messages) == ["the answer"]


async def test_versions_that_may_have_been_forgotten_are_not_given_out_again(world: World) -> None:
    """P3: and all that is older starts anew."""
    await world.chat()
    chat = (await world.claim()).chat
    assert chat.worker_id is not None
    raised = await world.store.raise_epoch(chat.id, chat.worker_id, epoch=chat.epoch, above=2)
    assert raised.snapshot_version == raised.reset_version == chat.snapshot_version + VERSIONS_RAISED


async def test_to_raise_an_epoch_again_changes_nothing(world: World) -> None:
    """P1: its outcome may have been unknown."""
    await world.chat()
    chat = (await world.claim()).chat
    assert chat.worker_id is not None
    first = await world.store.raise_epoch(chat.id, chat.worker_id, epoch=chat.epoch, above=9)
    assert await world.store.raise_epoch(chat.id, chat.worker_id, epoch=chat.epoch, above=9) == first


async def test_only_the_owner_of_the_tenure_raises_its_epoch(world: World) -> None:
    """P2"""
    chat_id = await world.chat()
    chat = (await world.claim()).chat
    assert chat.worker_id is not None
    for worker_id, epoch in ((STRANGER, chat.epoch), (chat.worker_id, chat.epoch - 1), (chat.worker_id, 3)):
        with pytest.raises(Fenced):
            await world.store.raise_epoch(chat_id, worker_id, epoch=epoch, above=9)
    assert await world.store.get(chat_id) == chat
