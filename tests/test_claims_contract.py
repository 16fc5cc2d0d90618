"""Whose turn it is to be claimed, in every ``Store``: users take turns, and what may kill its owner is on its own."""

from __future__ import annotations

from uuid import UUID

import pytest
import trio
from chat_states import assistant
from contract_worlds import OWNER, World, Worlds, fence_of

from chatcluster.chat import CommitStep, FinishTurn, Interrupt, Release, Retry, ScheduleRetry, StartAttempt
from chatcluster.ports import Claimed
from chatcluster.ports.claim_rules import SUSPECTED_TAKEOVERS, alone_seconds

GREEDY, MODEST, THIRD = UUID(int=11), UUID(int=12), UUID(int=13)
RETRY = Retry(attempt=1, delay_ms=60_000, error="busy", kind="overloaded")


pytest_plugins = ["contract_fixtures"]


async def owners_claimed(world: World, worker: UUID, times: int, *, free_slots: int = 1, batch: int = 10) -> list[UUID]:
    """The owners of the chats of so many claims, in their order."""
    owners: list[UUID] = []
    for _ in range(times):
        claimed = await world.store.claim(worker, free_slots=free_slots, batch=batch)
        owners.extend(one.chat.owner_id for one in claimed)
    return owners


async def die(world: World, worker: UUID) -> None:
    await world.registry.bury(worker, None)


async def suspect(world: World, *chat_ids: UUID) -> None:
    """Let the chats have had owners that died, so often that they may be why."""
    for _ in range(SUSPECTED_TAKEOVERS):
        worker = await world.worker()
        assert len(await claim_nine(world, worker)) == len(chat_ids)
        await die(world, worker)


async def claim_nine(world: World, worker: UUID, *, free_slots: int = 9) -> list[UUID]:
    return [one.chat.id for one in await world.store.claim(worker, free_slots=free_slots, batch=9)]


# --- turns ------------------------------------------------------------------------------------


async def test_a_chat_of_another_user_is_claimed_next_and_not_after_all_of_the_first(world: World) -> None:
    """P10"""
    for _ in range(8):
        await world.chat(owner_id=GREEDY)
    await world.chat(owner_id=MODEST)
    assert MODEST in await owners_claimed(world, await world.worker(), times=2)


async def test_users_take_turns_claim_by_claim(world: World) -> None:
    """P10"""
    for owner in (GREEDY, GREEDY, GREEDY, MODEST, MODEST, THIRD):
        await world.chat(owner_id=owner)
    owners = await owners_claimed(world, await world.worker(), times=6)
    assert sorted(owners[:3]) == [GREEDY, MODEST, THIRD]
    assert sorted(owners[3:5]) == [GREEDY, MODEST]
    assert owners[5] == GREEDY


async def test_a_batch_is_dealt_out_in_rounds(world: World) -> None:
    """P10"""
    for owner in (GREEDY,) * 6 + (MODEST,) * 2:
        await world.chat(owner_id=owner)
    owners = await owners_claimed(world, await world.worker(), times=1, free_slots=5)
    assert owners.count(MODEST) == 2


async def test_a_user_alone_has_a_whole_batch(world: World) -> None:
    chats = [await world.chat(owner_id=GREEDY) for _ in range(10)]
    claimed = await world.store.claim(await world.worker(), free_slots=64, batch=10)
    assert [one.chat.id for one in claimed] == chats, "the oldest first"


async def test_claimers_at_the_same_time_get_all_chats_of_all_users_once(world: World) -> None:
    """P2"""
    chats = [await world.chat(owner_id=UUID(int=number % 5)) for number in range(30)]
    won: list[UUID] = []

    async def claim_all(worker: UUID) -> None:
        while len(won) < len(chats):
            won.extend(one.chat.id for one in await world.store.claim(worker, free_slots=3, batch=3))

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(claim_all, await world.worker())
    assert sorted(won) == sorted(chats)


# --- a limit per user -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slots", "greedy_has"), [(64, 56), (16, 14), (8, 7), (7, 7), (1, 1)], ids=lambda number: str(number)
)
async def test_one_user_leaves_some_places_of_a_worker_to_others(worlds: Worlds, slots: int, greedy_has: int) -> None:
    """P10: those of chats whose models say nothing are taken for minutes."""
    async with worlds(slots=slots) as world:
        worker, held = await world.worker(), 0
        for _ in range(slots + 3):
            await world.chat(owner_id=GREEDY)
        while owners := await owners_claimed(world, worker, times=1, free_slots=slots - held):
            held += len(owners)
        assert held == greedy_has
        for owner in (MODEST, THIRD)[: slots - held]:
            await world.chat(owner_id=owner)
            assert await owners_claimed(world, worker, times=1, free_slots=1) == [owner]


async def test_two_users_who_have_many_leave_a_place_together(worlds: Worlds) -> None:
    """P10"""
    async with worlds(slots=16) as world:
        worker, held, greedy = await world.worker(), 0, [GREEDY, UUID(int=20)]
        for owner in greedy * 16:
            await world.chat(owner_id=owner)
        while owners := await owners_claimed(world, worker, times=1, free_slots=16 - held, batch=3):
            held += len(owners)
        assert held == 15
        await world.chat(owner_id=MODEST)
        assert await owners_claimed(world, worker, times=1) == [MODEST]


async def test_whose_share_is_used_up_keeps_nobody_behind_from_a_place(worlds: Worlds) -> None:
    """P10: it is the turn of one who gets no more, claim after claim."""
    async with worlds(slots=8) as world:
        worker = await world.worker()
        for _ in range(9):
            await world.chat(owner_id=GREEDY)
        assert len(await owners_claimed(world, worker, times=1, free_slots=8)) == 7
        assert await owners_claimed(world, worker, times=2) == []
        await world.chat(owner_id=THIRD)
        assert await owners_claimed(world, worker, times=1) == [THIRD]


async def test_a_user_has_so_many_running_chats_and_no_more(worlds: Worlds) -> None:
    """P10"""
    async with worlds(user_chats_max=2) as world:
        for owner in (GREEDY,) * 5 + (MODEST,):
            await world.chat(owner_id=owner)
        claimed = await world.store.claim(await world.worker(), free_slots=9, batch=9)
        assert sorted(one.chat.owner_id for one in claimed) == [GREEDY, GREEDY, MODEST]
        other = await world.worker()
        assert await world.store.claim(other, free_slots=9, batch=9) == ()
        done = next(one.chat for one in claimed if one.chat.owner_id == GREEDY)
        await world.store.commit(fence_of(done), FinishTurn((assistant("done"),)))
        assert await owners_claimed(world, other, times=3, free_slots=9) == [GREEDY]


async def test_users_at_their_limit_who_wait_in_front_take_no_place_from_one_behind(worlds: Worlds) -> None:
    """P10"""
    at_limit, behind = [UUID(int=number) for number in range(20, 44)], UUID(int=99)
    async with worlds(user_chats_max=4) as world:
        worker = await world.worker()
        for owner in at_limit:
            for _ in range(4):
                await world.chat(owner_id=owner)
        assert len(await owners_claimed(world, worker, times=1, free_slots=100, batch=100)) == 4 * len(at_limit)
        await world.chat(owner_id=behind)
        assert await owners_claimed(world, worker, times=1) == [behind], "the turns go on with those at their limit"
        for owner in (*at_limit, behind, behind, behind):
            await world.chat(owner_id=owner)
        assert await owners_claimed(world, await world.worker(), times=1, free_slots=9) == [behind] * 3


async def test_chats_that_are_to_be_interrupted_are_claimed_above_the_limit(worlds: Worlds) -> None:
    """P5"""
    async with worlds(user_chats_max=1) as world:
        await world.chat(owner_id=GREEDY)
        worker = await world.worker()
        assert len(await world.store.claim(worker, free_slots=9, batch=9)) == 1
        waiting = await world.chat(owner_id=GREEDY)
        await world.store.apply(waiting, Interrupt(), owner_id=GREEDY)
        assert [one.chat.id for one in await world.store.claim(worker, free_slots=0, batch=9)] == [waiting]


# --- owners that die --------------------------------------------------------------------------


async def test_a_takeover_is_counted_apart_from_the_failures_of_the_model(world: World) -> None:
    """P10"""
    await world.chat()
    worker = await world.worker()
    await world.claim(worker)
    await die(world, worker)
    chat = (await world.claim()).chat
    assert (chat.attempt, chat.takeovers, chat.failures) == (2, 2, 0)
    waiting = (await world.store.commit(fence_of(chat), ScheduleRetry(retry_of(chat.attempt)))).chat
    assert (waiting.attempt, waiting.takeovers, waiting.failures) == (2, 2, 1)
    again = (await world.store.commit(fence_of(waiting), ScheduleRetry(retry_of(chat.attempt)))).chat
    assert again.failures == 1, "the repeat of a commit is no failure more"
    started = (await world.store.commit(fence_of(again), StartAttempt(3))).chat
    assert (started.attempt, started.failures) == (3, 1)


async def test_the_counts_start_anew_with_the_history(world: World) -> None:
    await world.chat()
    chat = (await world.claim()).chat
    chat = (await world.store.commit(fence_of(chat), ScheduleRetry(RETRY))).chat
    stepped = await world.store.commit(fence_of(chat), CommitStep((assistant("a step"),)))
    assert (stepped.chat.attempt, stepped.chat.takeovers, stepped.chat.failures) == (1, 0, 0), "the next step has begun"


async def test_a_tenure_that_ends_in_order_clears_a_chat_of_suspicion(world: World) -> None:
    await suspect(world, await world.chat())
    chat = (await world.claim()).chat
    assert chat.takeovers == SUSPECTED_TAKEOVERS + 1
    released = await world.store.commit(fence_of(chat), Release())
    assert released.chat.takeovers == 0


async def test_of_the_chats_that_may_be_what_killed_their_owners_one_is_claimed_at_a_time(world: World) -> None:
    """P10: so that the next death tells which it was. All others are claimed as ever."""
    suspects = [await world.chat(), await world.chat()]
    await suspect(world, *suspects)
    others = [await world.chat(), await world.chat()]
    first, second = await world.worker(), await world.worker()

    async def claim(worker: UUID) -> tuple[Claimed, ...]:
        return await world.store.claim(worker, free_slots=9, batch=9)

    taken = [one.chat.id for one in await claim(first)]
    assert len(set(taken) & set(suspects)) == 1
    assert set(others) <= set(taken)
    assert await claim(first) == ()
    assert [one.chat.id for one in await claim(second)] == [one for one in suspects if one not in taken]


async def test_chats_to_be_interrupted_are_suspected_like_all_others(world: World) -> None:
    """P10: they would share every death of the one that kills their owners, and be ended with it."""
    interrupted, running = await world.chat(), await world.chat()
    await suspect(world, interrupted, running)
    await world.store.apply(interrupted, Interrupt(), owner_id=OWNER)
    first, second = await world.worker(), await world.worker()
    (taken,) = await claim_nine(world, first)
    assert await claim_nine(world, first) == []
    (other,) = await claim_nine(world, second)
    assert {taken, other} == {interrupted, running}


async def test_of_suspects_the_one_that_waits_longest_is_claimed(world: World) -> None:
    """P10: one to be interrupted, which comes back from each death, keeps no other from its turn."""
    interrupted, running = await world.chat(), await world.chat()
    await suspect(world, interrupted, running)
    await world.store.apply(interrupted, Interrupt(), owner_id=OWNER)
    taken = []
    for _ in range(4):
        worker = await world.worker()
        taken.extend(await claim_nine(world, worker))
        await die(world, worker)
    assert taken[:2] in ([interrupted, running], [running, interrupted])
    assert taken[2:] == taken[:2]


async def test_a_suspect_to_be_interrupted_takes_no_place(world: World) -> None:
    """P5"""
    chat_id = await world.chat()
    await suspect(world, chat_id)
    worker = await world.worker()
    assert await claim_nine(world, worker, free_slots=0) == []
    await world.store.apply(chat_id, Interrupt(), owner_id=OWNER)
    other = await world.chat()
    assert sorted(await claim_nine(world, worker, free_slots=1)) == sorted([chat_id, other])


@pytest.mark.parametrize("deaths", [3, 4, 5, 6, 8])
async def test_a_suspect_is_alone_for_longer_with_each_death(world: World, deaths: int) -> None:
    """P10: those that wait for it are mostly innocent; the one that kills is told even if it takes its time."""
    killer = await world.chat()
    for _ in range(deaths):
        worker = await world.worker()
        assert await claim_nine(world, worker) == [killer]
        await die(world, worker)
    worker, began = await world.worker(), trio.current_time()
    assert await claim_nine(world, worker) == [killer]
    waiting = await world.chat()
    for _ in range(SUSPECTED_TAKEOVERS):
        victim = await world.worker()
        assert await claim_nine(world, victim) == [waiting]
        await die(world, victim)
    left_seconds = alone_seconds(deaths + 1) / 2
    await world.age_change(killer, left_seconds)
    claimed = await claim_nine(world, worker)
    assert claimed == [] or trio.current_time() - began > left_seconds, "it was alone for less long than it may be"
    await world.age_change(killer, left_seconds)
    assert claimed + await claim_nine(world, worker) == [waiting]


async def test_a_clock_that_was_set_back_keeps_no_suspect_from_its_turn(world: World) -> None:
    """P10: else the other one would wait for as long as the clock takes to catch up."""
    suspects = [await world.chat(), await world.chat()]
    await suspect(world, *suspects)
    worker = await world.worker()
    (taken,) = await claim_nine(world, worker)
    await world.age_change(taken, -3600)
    assert [taken, *await claim_nine(world, worker)] in (suspects, suspects[::-1])


def test_a_suspect_is_alone_for_two_seconds_at_most() -> None:
    """P10"""
    assert [alone_seconds(takeovers) for takeovers in (4, 5, 6, 7, 8, 1000)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def retry_of(attempt: int) -> Retry:
    return Retry(attempt=attempt, delay_ms=60_000, error="busy", kind="overloaded")
