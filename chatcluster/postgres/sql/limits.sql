-- The queries of limits.py. See queries.py for the form of this file.

-- name: list_limits
select subject, name, period, cost_micros, tokens from usage_limits order by subject, name, period

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
    select subject, period, cost_micros, tokens from usage_limits
    where subject = 'default'
        or (subject = 'user' and name = (select users.name from users where users.id = $1))
        or (subject = 'group' and name in (select group_name from group_members where user_id = $1))
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
)
select period, cost_micros, tokens, (begins + ('1 ' || period)::interval) at time zone 'UTC' as resets_at,
    spent_micros, spent_tokens
from timed cross join lateral (
    select coalesce(sum(usage_events.cost_micros), 0)::bigint as spent_micros,
        (coalesce(sum(input_tokens), 0) + coalesce(sum(output_tokens), 0))::bigint as spent_tokens
    from usage_events where owner_id = $1 and at >= begins at time zone 'UTC'
) as spent
order by period
