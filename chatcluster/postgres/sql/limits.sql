-- The queries of limits.py. See queries.py for the form of this file.

-- name: list_limits
select subject, name, period, cost_micros, tokens from usage_limits
where subject in ('default', 'group', 'user') and period in ('day', 'week', 'month')
order by subject, name, period

-- name: put_limit
insert into usage_limits (subject, name, period, cost_micros, tokens) values ($1, $2, $3, $4, $5)
on conflict (subject, name, period) do update set cost_micros = excluded.cost_micros, tokens = excluded.tokens

-- name: remove_limit
delete from usage_limits where subject = $1 and name = $2 and period = $3 returning true

-- name: select_user
select id from users where name = $1

-- name: list_members
select group_name as group, users.name as user from group_members join users on users.id = user_id
order by group_name, users.name

-- name: add_member
insert into group_members (user_id, group_name) values ($1, $2) on conflict do nothing

-- name: remove_member
delete from group_members where user_id = (select id from users where name = $1) and group_name = $2 returning true

-- name: any_limit
select exists (select from usage_limits)

-- name: allowances
with found as (
    -- A newer version may know further ones.
    select subject, period, cost_micros, tokens from usage_limits
    where period in ('day', 'week', 'month') and (subject = 'default'
        or (subject = 'user' and name = (select users.name from users where users.id = $1))
        or (subject = 'group' and name in (select group_name from group_members where user_id = $1)))
),
nearest as (
    -- Of each period the subject that counts: a user comes before groups, and those before the default.
    select period, max(subject) filter (where subject = 'user') as of_user,
        max(subject) filter (where subject = 'group') as of_group
    from found group by period
),
counting as (
    select found.period, min(cost_micros) as cost_micros, min(tokens) as tokens
    from found join nearest on nearest.period = found.period
        and found.subject = coalesce(nearest.of_user, nearest.of_group, 'default')
    group by found.period
),
timed as (
    select *, date_trunc(period, statement_timestamp() at time zone 'UTC') as begins from counting
    where cost_micros is not null or tokens is not null
),
recent as materialized (
    -- What is not added up yet. Compared as rows: so the user's index is read from that moment on, and no index by time
    -- alone, which has everybody's.
    select at, usage_events.cost_micros as spent_micros,
        {most coalesce(input_tokens, 0)::numeric + coalesce(output_tokens, 0)} as spent_tokens
    from usage_events
    where (owner_id, at) > ($1, (select until from usage_added_up)) and (owner_id, at) <= ($1, 'infinity')
        and exists (select from timed)
)
select period, cost_micros, tokens, (begins + ('1 ' || period)::interval) at time zone 'UTC' as resets_at,
    spent_micros, spent_tokens
from timed cross join lateral (
    select {total spent_micros} as spent_micros, {total spent_tokens} as spent_tokens
    from (
        select usage_hours.cost_micros as spent_micros, usage_hours.tokens as spent_tokens
        from usage_hours where owner_id = $1 and hour >= begins at time zone 'UTC'
        union all
        select recent.spent_micros, recent.spent_tokens from recent where at >= begins at time zone 'UTC'
    ) as parts
) as spent
order by period

-- name: move_on
-- From which moment to which one attempts are to be added up, by whoever comes first; no row if somebody does, or if
-- there is nothing old enough. No transaction that books an attempt lasts for those minutes, so none comes later. In
-- steps, as there may be much.
with mark as (
    select greatest(until, statement_timestamp() - interval '32 days') as since
    from usage_added_up for update skip locked
)
update usage_added_up set until = least(since + interval '6 hours', statement_timestamp() - interval '5 minutes')
from mark where since < statement_timestamp() - interval '5 minutes'
returning since, usage_added_up.until, usage_added_up.until < statement_timestamp() - interval '5 minutes' as has_more

-- name: add_up
insert into usage_hours (owner_id, hour, cost_micros, tokens)
select owner_id, date_trunc('hour', at at time zone 'UTC') at time zone 'UTC' as hour, {total cost_micros},
    {total coalesce(input_tokens, 0)::numeric + coalesce(output_tokens, 0)}
from usage_events where at > $1 and at <= $2 group by owner_id, hour
on conflict (owner_id, hour) do update set
    cost_micros = {most usage_hours.cost_micros + excluded.cost_micros::numeric},
    tokens = {most usage_hours.tokens + excluded.tokens::numeric}

-- name: forget_hours
delete from usage_hours where hour < statement_timestamp() - interval '40 days'
