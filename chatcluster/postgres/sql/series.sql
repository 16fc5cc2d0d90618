-- The queries of series.py. See queries.py for the form of this file.

-- name: add_minutes
-- Minutes in their order, so that two replicas wait for each other and never in a circle.
insert into minutes as known (at, turns, failed, interrupted, output_tokens, first_tokens)
select at, turns, failed, interrupted, output_tokens, string_to_array(first_tokens, ',')::bigint[]
from unnest($1::timestamptz[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[])
    as new (at, turns, failed, interrupted, output_tokens, first_tokens)
order by at
on conflict (at) do update set
    turns = known.turns + excluded.turns,
    failed = known.failed + excluded.failed,
    interrupted = known.interrupted + excluded.interrupted,
    output_tokens = known.output_tokens + excluded.output_tokens,
    first_tokens = (
        select array_agg(coalesce(one, 0) + coalesce(other, 0) order by place)
        from unnest(known.first_tokens, excluded.first_tokens) with ordinality as both_of (one, other, place)
    )

-- name: read_series
-- Steps begin at whole multiples of their length.
with steps as (
    select at, at + $2 * interval '1 minute' as ends
    from generate_series(
        date_bin($2 * interval '1 minute', statement_timestamp(), 'epoch') - ($1 - 1) * $2 * interval '1 minute',
        statement_timestamp(),
        $2 * interval '1 minute'
    ) as at
),
counted as (
    select steps.at, sum(turns) as turns, sum(failed) as failed, sum(interrupted) as interrupted,
        sum(output_tokens) as output_tokens
    from steps join minutes on minutes.at >= steps.at and minutes.at < steps.ends
    group by steps.at
),
waited as (
    select at, array_agg(total order by place) as first_tokens
    from (
        select steps.at, place, sum(number)::bigint as total
        from steps join minutes on minutes.at >= steps.at and minutes.at < steps.ends
            cross join lateral unnest(first_tokens) with ordinality as bucket (number, place)
        group by steps.at, place
    ) as buckets
    group by at
),
lost as (
    select steps.at, count(*) as takeovers
    from steps join takeovers on freed_at >= steps.at and freed_at < steps.ends
    where cause = 'takeover'
    group by steps.at
)
select steps.at, coalesce(turns, 0)::bigint as turns, coalesce(failed, 0)::bigint as failed,
    coalesce(interrupted, 0)::bigint as interrupted, coalesce(output_tokens, 0)::bigint as output_tokens,
    first_tokens, coalesce(takeovers, 0)::bigint as takeovers
from steps left join counted using (at) left join waited using (at) left join lost using (at)
order by at
