-- The queries of claims.py. See queries.py for the form of this file.

-- fragment: waits
chats.claimable_since is not null and chats.status = 'running' and {readable}

-- fragment: unaccompanied
-- Asked of each suspect, so that it is not asked at all where there is none. One that began in the future, as after a
-- clock was set back, is no company for as long as that may take.
0 = (
    select count(*) from chats as owned
    where owned.worker_id = $1 and owned.takeovers > 3 and owned.id <> chats.id
        and owned.updated_at between
            statement_timestamp() - interval '2 seconds' * power(2::float8, least(0, owned.takeovers - 7))
            and statement_timestamp() + interval '2 seconds'
)

-- fragment: claimed
-- What becomes of a chat is the rule of chat/tenure.py.
{wal},
-- The lock on the replica's row makes a burial of this worker wait; renewals do not conflict with it. If a burial has
-- the row, or has deleted it, nothing is claimed.
claimer as (
    select worker_id, name from replicas where worker_id = $1 and exists (select from taken) for key share skip locked
),
claimed as (
    update chats set
        worker_id = claimer.worker_id,
        epoch = greatest(chats.epoch, {next_reset_version}) + 1,
        {next_version},
        attempt = attempt + case when status = 'running' and retry is null then 1 else 0 end,
        takeovers = takeovers + 1,
        cause = case when cause in ('takeover', 'drain') then cause else 'claim' end,
        claimable_since = null,
        updated_at = statement_timestamp()
    from taken, claimer, wal
    where chats.id = taken.id
    returning {chat}, claimer.name as claimer_name, taken.round, taken.place, taken.claimable_since as waited_since,
        -- The server's own row of this chat has lost it by now. A moment beyond all time is no reason to fail.
        case when isfinite(taken.claimable_since) then greatest(0, extract(
            epoch from statement_timestamp() - greatest('0001-01-02', least(taken.claimable_since, '9999-12-30'))
        )) else 0 end::float8 as waited_seconds,
        {told},
        case
            when retry_at is null then 0
            else greatest(0, extract(
                epoch from least(greatest(retry_at, '0001-01-02'), '9999-12-30') - statement_timestamp()
            ))
        end::float8 as retry_seconds
),
logged as (
    -- Of those that had lost an owner: who takes them up. For each chat a look into a partial index that is nearly empty.
    -- An entry that somebody holds keeps no chat waiting: it stays without that.
    update takeovers set
        to_worker = claimed.worker_id, to_name = claimed.claimer_name, claimed_at = statement_timestamp()
    from claimed cross join lateral (
        select id from takeovers as open where open.chat_id = claimed.id and open.claimed_at is null
        for update skip locked
    ) as unclaimed
    where takeovers.id = unclaimed.id
)

-- name: claim_few
-- All that wait, where each of them has a place and none is suspected: whose turn it is does not matter then. Otherwise
-- it is crowded, and nothing is claimed.
with asked as materialized (
    -- Of $2 free places without those that the worker, which has $4 in all, keeps: the rule of ports/claim_rules.py.
    select greatest(0, least($2::bigint - $4::bigint / ({times_max} + 1), $3::bigint)) as places
),
waiting as materialized (
    (
        select id, takeovers from chats where status = 'running' and claimable_since is not null and {readable}
        order by claimable_since
        limit (select places + 1 from asked)
    )
    union all
    (
        select id, takeovers from chats where status = 'interrupting' and claimable_since is not null and {readable}
        order by claimable_since
        limit (select places + 1 from asked)
    )
),
few as (
    select count(*) > (select places from asked) or coalesce(max(takeovers), 0) >= 3 as crowded from waiting
),
taken as (
    select id, claimable_since, 0::bigint as round, 0 as place from chats
    where id in (select waiting.id from waiting) and not (select crowded from few)
        and claimable_since is not null and takeovers < 3
    for update skip locked
),
{claimed}
select few.crowded, claimed.* from few left join claimed on true order by waited_since

-- name: claim
-- By turns: round by round, of each owner the chat that waits longest, beginning with the owner after $4, and of none
-- more than its share of the places. Locks nothing
-- but what it takes, and nothing at all when there is nothing to take. Each step is a look into a small partial index.
--
-- A chat is suspected when three tenures in a row did not end in order. A worker takes one of those at a time, the one that
-- waits longest, and no other for a while (alone_seconds in ports/claim_rules.py), so that the next death tells which it
-- was; those that kill more slowly are told by chance, as each death scatters them. Chats to be interrupted are no exception:
-- they would share each death of the one that kills, and never be told apart from it.
--
-- What is asked is a table of its own, so that the plan does not depend on it: then it is made once, and not each time.
with recursive asked as materialized (
    select $2::bigint as slots, $3::bigint as batch, $4::uuid as after_owner, $5::bigint as user_chats_max
),
interrupting as (
    select id, claimable_since from chats
    where status = 'interrupting' and claimable_since is not null and takeovers < 3 and {readable}
    order by claimable_since
    limit (select batch from asked)
    for update skip locked
),
free as (
    select greatest(0, least(slots, batch - (select count(*) from interrupting))) as places from asked
),
interrupting_suspect as (
    select id, claimable_since from chats
    where status = 'interrupting' and claimable_since is not null and takeovers >= 3
        and {readable} and {unaccompanied}
    order by claimable_since
    limit 1
    for update skip locked
),
running_suspect as (
    select id, claimable_since from chats
    where {waits} and takeovers >= 3
        and {unaccompanied}
        and claimable_since < coalesce((select claimable_since from interrupting_suspect), 'infinity')
    order by claimable_since
    limit (select least(1, places) from free)
    for update skip locked
),
running_by_owner as (
    select owner_id, count(*) as running from chats
    where (select user_chats_max from asked) > 0 and worker_id is not null and status = 'running'
    group by owner_id
),
held as (
    select owner_id, count(*) as places from chats where worker_id = $1 and status = 'running' group by owner_id
),
shares as (
    -- How many more of this worker's places the owners of its chats get: the rule of ports/claim_rules.py.
    select owner_id, greatest(0, ({times_max} * slots - places + {times_max}) / ({times_max} + 1)) as places_left
    from held, asked
),
busy as (
    select owner_id from running_by_owner where running >= (select user_chats_max from asked)
    union all
    select owner_id from shares where places_left = 0
),
owners as (
    -- The owners of chats that wait, in a circle that begins after $4. Each step is the next entry of an index, whatever the
    -- statistics say: what could make the planner doubt that an early entry will do is asked of the entry that was found.
    select after_owner as owner_id, false as again, true as is_busy, 0 as place from asked
    union all
    select next.owner_id, next.again, next.is_busy, owners.place + case when next.is_busy then 0 else 1 end
    from owners cross join lateral (
        select found.owner_id, found.again, found.owner_id in (select busy.owner_id from busy) as is_busy
        from (
            (
                select chats.owner_id, owners.again from chats
                where {waits} and chats.owner_id > owners.owner_id
                order by chats.owner_id
                limit 1
            )
            union all
            (select chats.owner_id, true from chats where {waits} and not owners.again order by chats.owner_id limit 1)
            limit 1
        ) as found
    ) as next
    where owners.place < (select places from free)
        and (not next.again or next.owner_id <= (select after_owner from asked))
),
candidates as (
    select oldest.id, oldest.round, owners.place
    from owners cross join lateral (
        select id, row_number() over (order by claimable_since) as round
        from (
            select id, claimable_since from chats
            where {waits} and chats.owner_id = owners.owner_id and takeovers < 3
            order by claimable_since
            limit (select greatest(2, (select 8 + 4 * places from free) / (1 + count(*))) from owners where not is_busy)
        ) as waiting
    ) as oldest
    where not owners.is_busy
        and oldest.round <= (select case user_chats_max when 0 then 1000000 else user_chats_max end from asked)
            - coalesce((select running from running_by_owner where running_by_owner.owner_id = owners.owner_id), 0)
        and oldest.round <= coalesce(
            (select places_left from shares where shares.owner_id = owners.owner_id),
            (select ({times_max} * slots + {times_max}) / ({times_max} + 1) from asked)
        )
),
running as (
    select chats.id, chats.claimable_since, candidates.round, candidates.place
    from candidates join chats on chats.id = candidates.id
    -- As it is once it is locked. With ``is not null`` an index of all that wait could be gone through for these few.
    where num_nonnulls(chats.claimable_since) = 1 and chats.status = 'running' and {readable}
    order by candidates.round, candidates.place
    limit (select places - (select count(*) from running_suspect) from free)
    for update of chats skip locked
),
taken as (
    select id, claimable_since, -1::bigint as round, 0 as place from interrupting
    union all
    select id, claimable_since, 0, 0 from running_suspect
    union all
    select id, claimable_since, 0, 0 from interrupting_suspect where not exists (select from running_suspect)
    union all
    select id, claimable_since, round, place from running
),
{claimed}
select * from claimed order by round, place, waited_since

-- name: claim_one
-- One chat by its ID, where the claim of many failed.
with taken as (
    select id, claimable_since, 0::bigint as round, 0 as place from chats
    where id = $2 and claimable_since is not null and {readable}
    for update skip locked
),
{claimed}
select * from claimed

-- name: select_claimable
-- IDs alone: nothing that may be unreadable. Chats that are to be interrupted, and what fits of the others.
(
    select id from chats where status = 'interrupting' and claimable_since is not null and {readable}
    order by random()
    limit $2
)
union all
(
    -- In no order: chats that can be neither read nor written are in nobody's way.
    select id from (select id from chats where {waits} order by claimable_since limit 1000) as waiting
    order by random() limit least($1::bigint, $2::bigint)
)

-- name: end_unreadable
-- Nothing of the row is read but what is needed to find it: a column of it cannot be. What the turn was is lost.
with {wal},
ended as (
    update chats set
        status = 'error', archived = archiving, archiving = false, compacting = false, open_calls = 0,
        retry = null, retry_at = null, last_error = $2::text::json, claimable_since = null, takeovers = 0,
        cause = 'error', {next_version}, updated_at = statement_timestamp()
    from wal
    where id = $1 and claimable_since is not null
    returning id, snapshot_version
),
{turn_and_calls_ended}
