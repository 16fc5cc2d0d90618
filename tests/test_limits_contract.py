"""How much users may spend: which limit counts, for when, and what is spent of it; in memory as on Postgres."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from chat_states import assistant
from contract_worlds import World, fence_of

from chatcluster.chat import FinishTurn
from chatcluster.errors import NotFound
from chatcluster.memory.limits import bounds_of
from chatcluster.ports import Account
from chatcluster.ports.limits import Limit, Member, Period, Subject, excess_of
from chatcluster.usage import Spent, SpentOutcome

ADMIN = Account(UUID(int=1), "root", admin=True)


pytest_plugins = ["contract_fixtures"]


async def user(world: World, name: str = "ada", *groups: str) -> UUID:
    account = await world.accounts.ensure_user(name, admin=False)
    for group in groups:
        await world.limits.add_member(Member(group, name), ADMIN)
    return account.user_id


async def limit(
    world: World,
    subject: Subject,
    name: str = "",
    period: Period = Period.DAY,
    *,
    micros: int | None = None,
    tokens: int | None = None,
) -> None:
    await world.limits.put(Limit(subject, name, period, micros, tokens), ADMIN)


async def micros_of(world: World, owner_id: UUID) -> dict[str, int | None]:
    return {str(one.period): one.cost_micros for one in await world.limits.allowances(owner_id)}


async def spend(world: World, owner_id: UUID, micros: int | None, tokens: int = 0) -> None:
    await world.chat(owner_id=owner_id)
    chat = (await world.claim()).chat
    spent = Spent(
        chat.history_version, chat.attempt, 1, SpentOutcome.COMMITTED, output_tokens=tokens, cost_micros=micros
    )
    await world.store.commit(fence_of(chat), FinishTurn((assistant("hi"),)), spent=(spent,))


async def test_there_is_no_limit_until_somebody_sets_one(world: World) -> None:
    ada = await user(world)
    assert not await world.limits.any()
    assert await world.limits.allowances(ada) == ()
    await limit(world, Subject.DEFAULT, micros=5)
    assert await world.limits.any()
    assert await micros_of(world, ada) == {"day": 5}


async def test_a_user_comes_before_the_least_of_the_groups_and_those_before_the_default(world: World) -> None:
    ada, bob, eve = await user(world, "ada", "lab", "club"), await user(world, "bob", "club"), await user(world, "eve")
    await limit(world, Subject.DEFAULT, micros=1)
    await limit(world, Subject.GROUP, "lab", micros=10)
    await limit(world, Subject.GROUP, "club", micros=20)
    await limit(world, Subject.USER, "bob", micros=99)
    assert [await micros_of(world, one) for one in (ada, bob, eve)] == [{"day": 10}, {"day": 99}, {"day": 1}]


async def test_each_period_has_limits_of_its_own(world: World) -> None:
    ada = await user(world)
    await limit(world, Subject.DEFAULT, "", Period.DAY, micros=1)
    await limit(world, Subject.DEFAULT, "", Period.MONTH, micros=30)
    await limit(world, Subject.USER, "ada", Period.MONTH, micros=50)
    assert await micros_of(world, ada) == {"day": 1, "month": 50}


async def test_a_limit_without_numbers_lets_its_subject_spend(world: World) -> None:
    ada = await user(world)
    await limit(world, Subject.DEFAULT, micros=1)
    await limit(world, Subject.USER, "ada")
    assert await world.limits.allowances(ada) == ()


async def test_what_is_removed_counts_no_more(world: World) -> None:
    ada = await user(world, "ada", "lab")
    await limit(world, Subject.DEFAULT, micros=1)
    await limit(world, Subject.GROUP, "lab", micros=10)
    assert await world.limits.remove_member(Member("lab", "ada"), ADMIN)
    assert not await world.limits.remove_member(Member("lab", "ada"), ADMIN)
    assert await micros_of(world, ada) == {"day": 1}
    place = Limit(Subject.DEFAULT, "", Period.DAY).place
    assert await world.limits.remove(place, ADMIN)
    assert not await world.limits.remove(place, ADMIN)
    assert await micros_of(world, ada) == {}


async def test_a_limit_takes_the_place_of_the_one_before(world: World) -> None:
    await limit(world, Subject.DEFAULT, micros=1, tokens=2)
    await limit(world, Subject.DEFAULT, micros=3)
    assert await world.limits.limits() == (Limit(Subject.DEFAULT, "", Period.DAY, 3),)


async def test_nobody_is_limited_who_is_not_there(world: World) -> None:
    with pytest.raises(NotFound):
        await limit(world, Subject.USER, "nobody", micros=1)
    with pytest.raises(NotFound):
        await world.limits.add_member(Member("lab", "nobody"), ADMIN)


@pytest.mark.parametrize(("micros", "tokens", "kind"), [(7, None, "cost_micros"), (None, 5, "tokens")])
async def test_a_limit_is_reached_when_as_much_is_spent(
    world: World, micros: int | None, tokens: int | None, kind: str
) -> None:
    ada, bob = await user(world, "ada"), await user(world, "bob")
    await limit(world, Subject.DEFAULT, micros=micros, tokens=tokens)
    await spend(world, ada, 6, 4)
    assert excess_of(await world.limits.allowances(ada)) is None
    await spend(world, ada, 1, 1)
    excess = excess_of(await world.limits.allowances(ada))
    assert excess is not None
    assert (excess.code, excess.status) == ("usage_limit_exceeded", 409)
    assert (excess.details["kind"], excess.details["spent"]) == (kind, micros or tokens)
    assert excess_of(await world.limits.allowances(bob)) is None, "each user's own"


async def test_what_has_no_known_cost_counts_in_tokens_alone(world: World) -> None:
    ada = await user(world)
    await limit(world, Subject.DEFAULT, micros=1, tokens=100)
    await spend(world, ada, None, 10)
    (allowance,) = await world.limits.allowances(ada)
    assert (allowance.spent_micros, allowance.spent_tokens) == (0, 10)


async def test_a_limit_of_0_is_reached_at_once(world: World) -> None:
    ada = await user(world)
    await limit(world, Subject.DEFAULT, micros=0)
    assert excess_of(await world.limits.allowances(ada)) is not None


async def test_a_period_begins_anew_where_the_calendar_says_so(world: World) -> None:
    ada = await user(world)
    for period in Period:
        await limit(world, Subject.DEFAULT, "", period, micros=1)
    allowances = await world.limits.allowances(ada)
    now = (await world.store.get(await world.chat())).updated_at
    assert {one.period: one.resets_at for one in allowances} == {one: bounds_of(one, now)[1] for one in Period}


@pytest.mark.parametrize(
    ("period", "now", "begins", "resets"),
    [
        (Period.DAY, "2026-03-31T23:59:59", "2026-03-31", "2026-04-01"),
        (Period.WEEK, "2026-03-01T12:00:00", "2026-02-23", "2026-03-02"),
        (Period.WEEK, "2026-03-02T00:00:00", "2026-03-02", "2026-03-09"),
        (Period.MONTH, "2026-12-31T12:00:00", "2026-12-01", "2027-01-01"),
        (Period.MONTH, "2028-02-29T00:00:00", "2028-02-01", "2028-03-01"),
    ],
)
def test_periods_are_those_of_the_calendar(period: Period, now: str, begins: str, resets: str) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert bounds_of(period, moment(now)) == (moment(begins), moment(resets))


async def test_of_several_limits_that_are_reached_the_one_that_lasts_longest_is_told(world: World) -> None:
    ada = await user(world)
    await limit(world, Subject.DEFAULT, "", Period.DAY, micros=0)
    await limit(world, Subject.DEFAULT, "", Period.MONTH, micros=0)
    excess = excess_of(await world.limits.allowances(ada))
    assert excess is not None
    (month,) = [one for one in await world.limits.allowances(ada) if one.period is Period.MONTH]
    assert str(excess.details["resets_at"]) >= month.resets_at.isoformat()[:19]
