"""What attempts cost is booked once, in the transaction that ends them, in memory as on Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from chat_states import assistant, text
from contract_worlds import OWNER, World, fence_of

from chatcluster.chat import (
    CallState,
    CommitStep,
    Edit,
    ErrorInfo,
    Fail,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    OpenCall,
    Release,
    Retry,
    ScheduleRetry,
    StartAttempt,
)
from chatcluster.errors import Fenced, Moved
from chatcluster.ports import Chat, Outcome
from chatcluster.ports.usage import GroupBy, UsageQuery
from chatcluster.usage import Bill, Spent, SpentOutcome

ANSWER = FinishTurn((assistant("the answer"),))
RETRY = Retry(attempt=1, delay_ms=0, error="busy", kind="overloaded")
STRANGER = UUID(int=200)


pytest_plugins = ["contract_fixtures"]


def spent(chat: Chat, outcome: SpentOutcome = SpentOutcome.COMMITTED, **fields: Any) -> Spent:
    counts: dict[str, Any] = {
        "model": "large",
        "provider": "cloud",
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_micros": 7,
    } | fields
    return Spent(chat.history_version, chat.attempt, chat.epoch, outcome, **counts)


async def commit(world: World, chat: Chat, command: Any, *booked: Spent, known: bool = True) -> Outcome:
    return await world.store.commit(fence_of(chat), command, known=chat if known else None, spent=booked)


async def claimed(world: World) -> Chat:
    await world.chat()
    return (await world.claim()).chat


def always(group_by: GroupBy, owner_id: UUID | None = OWNER) -> UsageQuery:
    return UsageQuery(datetime(2000, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC), group_by, owner_id)


ONE = Bill(1, input_tokens=10, output_tokens=5, cost_micros=7)
TWO = Bill(2, input_tokens=20, output_tokens=10, cost_micros=14)


# --- booking ----------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["as it is known", "the long way"])
@pytest.mark.parametrize(
    "command",
    [
        ANSWER,
        Fail(ErrorInfo("overloaded", "busy")),
        ScheduleRetry(RETRY),
        Release(),
        CommitStep((assistant("a step"),)),
    ],
    ids=lambda command: type(command).__name__,
)
async def test_whatever_ends_an_attempt_books_it(world: World, command: Any, known: bool) -> None:
    chat = await claimed(world)
    await commit(world, chat, command, spent(chat), known=known)
    assert await world.bill(chat.id) == ONE


async def test_an_interruption_books_what_was_spent_until_then(world: World) -> None:
    chat = await claimed(world)
    chat = (await world.store.apply(chat.id, Interrupt(), owner_id=OWNER)).chat
    partial = spent(chat, SpentOutcome.INTERRUPTED, output_tokens=None, cost_micros=None)
    outcome = await commit(world, chat, FinishInterruption(assistant("the ans")), partial)
    bill = Bill(1, input_tokens=10, unpriced=1)
    assert await world.bill(chat.id) == bill
    assert outcome.ended is not None
    assert outcome.ended.usage == bill


async def test_an_attempt_whose_start_a_failover_lost_has_its_number_for_itself(world: World) -> None:
    chat = await claimed(world)
    lost = msgspec.structs.replace(chat, attempt=chat.attempt + 1)
    await commit(world, chat, Release(attempt=lost.attempt), spent(lost), known=False)
    after = (await world.claim()).chat
    assert after.attempt == lost.attempt + 1
    await commit(world, after, ANSWER, spent(after))
    assert await world.bill(chat.id) == TWO


async def test_searches_are_booked_and_added_up(world: World) -> None:
    chat = await claimed(world)
    outcome = await commit(world, chat, ANSWER, spent(chat, searches=3))
    bill = Bill(1, input_tokens=10, output_tokens=5, cost_micros=7, searches=3)
    assert await world.bill(chat.id) == bill
    assert outcome.ended is not None
    assert outcome.ended.usage == bill


async def test_a_step_with_calls_books_its_attempt(world: World) -> None:
    chat = await claimed(world)
    call = OpenCall("c1", "look", CallState.PENDING)
    await commit(world, chat, CommitStep((assistant("looking", "c1"),), (call,)), spent(chat))
    assert await world.bill(chat.id) == ONE


async def test_an_attempt_is_booked_once_however_often_its_commit_is_repeated(world: World) -> None:
    chat = await claimed(world)
    for _ in range(3):
        await commit(world, chat, ScheduleRetry(RETRY), spent(chat, SpentOutcome.FAILED))
    started = (await commit(world, chat, StartAttempt(2))).chat
    for _ in range(3):
        await commit(world, started, ANSWER, spent(started), known=False)
    assert await world.bill(chat.id) == TWO


async def test_what_is_booked_already_stays_as_it_is(world: World) -> None:
    chat = await claimed(world)
    await commit(world, chat, ScheduleRetry(RETRY), spent(chat))
    await commit(world, chat, ScheduleRetry(RETRY), spent(chat, input_tokens=999))
    assert await world.bill(chat.id) == ONE


async def test_a_commit_that_is_refused_books_nothing(world: World) -> None:
    chat = await claimed(world)
    with pytest.raises(Fenced):
        await commit(world, msgspec.structs.replace(chat, worker_id=uuid4()), ANSWER, spent(chat))
    with pytest.raises(Moved):
        await commit(world, msgspec.structs.replace(chat, history_version=99), ANSWER, spent(chat))
    assert await world.bill(chat.id) == Bill()


async def test_what_is_booked_outlives_an_edit_and_the_chat(world: World) -> None:
    chat = await claimed(world)
    asked = (await world.store.read(chat.id)).messages[0]
    await commit(world, chat, ANSWER, spent(chat))
    await world.store.apply(chat.id, Edit(asked.id, text("again")), owner_id=OWNER)
    again = (await world.claim()).chat
    await commit(world, again, ANSWER, spent(again))
    assert await world.bill(chat.id) == TWO
    await world.store.delete(chat.id, owner_id=OWNER)
    assert (await world.usage.sums(always(GroupBy.CHAT), limit=9)).total == TWO


# --- owners that die --------------------------------------------------------------------------


async def test_a_burial_books_the_attempt_that_its_worker_died_with(world: World) -> None:
    chat = await claimed(world)
    assert chat.worker_id is not None
    await world.registry.bury(chat.worker_id, None)
    assert await world.bill(chat.id) == Bill(1, unpriced=1)
    again = (await world.claim()).chat
    await commit(world, again, ANSWER, spent(again))
    assert await world.bill(chat.id) == Bill(2, 10, output_tokens=5, cost_micros=7, unpriced=1)


async def test_a_burial_books_no_attempt_that_was_not_under_way(world: World) -> None:
    chat = await claimed(world)
    waiting = (await commit(world, chat, ScheduleRetry(RETRY), spent(chat, SpentOutcome.FAILED))).chat
    assert waiting.worker_id is not None
    await world.registry.bury(waiting.worker_id, None)
    assert await world.bill(chat.id) == ONE


async def test_a_burial_of_who_runs_calls_books_no_attempt(world: World) -> None:
    chat = await claimed(world)
    call = OpenCall("c1", "look", CallState.PENDING)
    asking = (await commit(world, chat, CommitStep((assistant("looking", "c1"),), (call,)), spent(chat))).chat
    assert asking.worker_id is not None
    await world.registry.bury(asking.worker_id, None)
    assert await world.bill(chat.id) == ONE


async def test_an_attempt_that_two_owners_die_with_while_it_is_interrupted_is_booked_once(world: World) -> None:
    chat = await claimed(world)
    await world.store.apply(chat.id, Interrupt(), owner_id=OWNER)
    assert chat.worker_id is not None
    await world.registry.bury(chat.worker_id, None)
    second = (await world.claim()).chat
    assert second.worker_id is not None
    await world.registry.bury(second.worker_id, None)
    assert await world.bill(chat.id) == Bill(1, unpriced=1)


# --- turns ------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False], ids=["as it is known", "the long way"])
async def test_the_end_of_a_turn_tells_what_all_its_attempts_cost_and_no_other(world: World, known: bool) -> None:
    chat = await claimed(world)
    await commit(world, chat, ANSWER, spent(chat))
    await world.send(chat.id, "and now?")
    second = (await world.claim()).chat
    failed = spent(second, SpentOutcome.FAILED)
    await commit(world, second, ScheduleRetry(RETRY), failed, known=known)
    started = (await commit(world, second, StartAttempt(2), known=known)).chat
    ended = (await commit(world, started, ANSWER, spent(started), known=known)).ended
    assert ended is not None
    assert ended.usage == TWO
    read = await world.store.read_newer(
        chat.id, after_version=0, after_id=0, queue_version=-1, limit=9, bytes_max=1000, turns_after=0
    )
    assert [turn.usage for turn in read.turns] == [ONE, TWO]


async def test_a_turn_that_cost_nothing_says_nothing(world: World) -> None:
    chat = await claimed(world)
    ended = (await commit(world, chat, Fail(ErrorInfo("auth", "the key is wrong")))).ended
    assert ended is not None
    assert ended.usage is None


async def test_a_turn_with_a_queue_behind_it_tells_its_own_cost(world: World) -> None:
    chat = await claimed(world)
    await world.queue(chat.id, "and then?")
    chat = await world.store.get(chat.id)
    ended = (await commit(world, chat, ANSWER, spent(chat))).ended
    assert ended is not None
    assert ended.usage == ONE


# --- sums -------------------------------------------------------------------------------------


async def booked_for(world: World, owner_id: UUID, **fields: Any) -> Chat:
    await world.chat(owner_id=owner_id)
    chat = (await world.claim()).chat
    await commit(world, chat, ANSWER, spent(chat, **fields))
    return chat


async def test_sums_are_of_one_user_or_of_all(world: World) -> None:
    await booked_for(world, OWNER)
    await booked_for(world, STRANGER)
    assert (await world.usage.sums(always(GroupBy.DAY), limit=9)).total == ONE
    everybody = await world.usage.sums(always(GroupBy.USER, None), limit=9)
    assert everybody.total == TWO
    assert [group.key for group in everybody.groups] == [str(OWNER), str(STRANGER)]


async def test_sums_by_day_model_and_chat(world: World) -> None:
    cheap = await booked_for(world, OWNER, cost_micros=1, model="small")
    dear = await booked_for(world, OWNER, cost_micros=100)
    unknown = await booked_for(world, OWNER, cost_micros=None, model=None)

    async def keys(group_by: GroupBy) -> list[str | None]:
        return [group.key for group in (await world.usage.sums(always(group_by), limit=9)).groups]

    assert await keys(GroupBy.MODEL) == ["large", "small", None]
    assert await keys(GroupBy.CHAT) == [str(dear.id), str(cheap.id), str(unknown.id)]
    (day,) = (await world.usage.sums(always(GroupBy.DAY), limit=9)).groups
    assert day.bill == Bill(3, input_tokens=30, output_tokens=15, cost_micros=101, unpriced=1)


async def test_sums_are_of_their_time_alone(world: World) -> None:
    chat = await booked_for(world, OWNER)
    now = chat.updated_at

    async def total(since: datetime, until: datetime) -> Bill:
        return (await world.usage.sums(UsageQuery(since, until, GroupBy.DAY, OWNER), limit=9)).total

    hour = timedelta(hours=1)
    assert await total(now - hour, now + hour) == ONE
    assert await total(now - 2 * hour, now - hour) == Bill()
    assert await total(now + hour, now + 2 * hour) == Bill()


async def test_groups_that_are_too_many_are_left_away_and_said_so(world: World) -> None:
    for _ in range(3):
        await booked_for(world, OWNER)
    sums = await world.usage.sums(always(GroupBy.CHAT), limit=2)
    assert (len(sums.groups), sums.has_more, sums.total.attempts) == (2, True, 3)
    assert [group.name for group in sums.groups] == ["a chat", "a chat"]
