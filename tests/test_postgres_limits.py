"""What a user spent is added up behind everybody's back: a limit tells the same sums, from a bounded number of rows."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import pytest
from cluster_processes import run_sql
from contract_worlds import open_world

from chatcluster.ports import Account
from chatcluster.ports.limits import Limit, Period, Subject

pytestmark = pytest.mark.postgres
ADMIN = Account(UUID(int=1), "root", admin=True)
BOOK = """
insert into usage_events
    (chat_id, history_version, attempt, owner_id, epoch, at, outcome, input_tokens, output_tokens, cost_micros)
select gen_random_uuid(), 1, 1, $1, 1, statement_timestamp() - n * interval '17 minutes', 'committed', 2, n % 2, 3
from generate_series(0, 3000) n
"""
OF_THE_MONTH = """
select sum(cost_micros)::bigint, (sum(input_tokens) + sum(output_tokens))::bigint from usage_events
where owner_id = $1 and at >= date_trunc('month', statement_timestamp() at time zone 'UTC') at time zone 'UTC'
"""
NOT_ADDED_UP = "select count(*) from usage_events where owner_id = $1 and at > (select until from usage_added_up)"


async def test_a_limit_tells_the_same_sums_whether_they_are_added_up_or_not(database_url: str) -> None:
    async with open_world(database_url) as world:
        owner = (await world.accounts.ensure_user("ada", admin=False)).user_id
        other = (await world.accounts.ensure_user("bob", admin=False)).user_id
        for period in Period:
            await world.limits.put(Limit(Subject.DEFAULT, "", period, cost_micros=1, tokens=1), ADMIN)
        for user in (owner, other):
            await run_sql(database_url, BOOK, user)
        before = await world.limits.allowances(owner)
        (month,) = [one for one in before if one.period is Period.MONTH]
        assert [(month.spent_micros, month.spent_tokens)] == await run_sql(database_url, OF_THE_MONTH, owner)
        steps = 1
        while await world.limits.add_up():
            assert await world.limits.allowances(owner) == before
            steps += 1
        assert steps > 100, "a month is not added up in one statement"
        assert await world.limits.allowances(owner) == before
        assert await run_sql(database_url, NOT_ADDED_UP, owner) == [(1,)], "the newest minutes alone"
        assert not await world.limits.add_up(), "each once"
        await run_sql(database_url, BOOK.replace("(0, 3000)", "(0, 0)"), owner)
        day, *_ = await world.limits.allowances(owner)
        assert day.spent_micros == before[0].spent_micros + 3, "what came since counts at once"


@pytest.mark.parametrize("sums", ["-1, 0", "0, -1"])
async def test_no_sum_is_below_zero(database_url: str, sums: str) -> None:
    put = f"insert into usage_hours values (gen_random_uuid(), date_trunc('hour', now()), {sums})"
    with pytest.raises(asyncpg.CheckViolationError, match="sums_are_not_negative"):
        await run_sql(database_url, put)
    validated = "select convalidated from pg_constraint where conname = 'sums_are_not_negative'"
    assert await run_sql(database_url, validated) == [(True,)], "it holds for the rows of before as well"
