-- The queries of registry.py. See queries.py for the form of this file.

-- name: wait_briefly
select set_config('lock_timeout', $1, true)

-- name: register
-- A worker's ID is new for every incarnation, so a row in conflict is our own, of a request without an answer.
insert into replicas (worker_id, name, address, version, slots, draining, session_locks)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (worker_id) do update set heartbeat_at = statement_timestamp()

-- name: renew
with renewed as (
    update replicas set heartbeat_at = statement_timestamp(), draining = $2 where worker_id = $1 returning worker_id
)
select
    exists (select from renewed) as alive,
    (
        select coalesce(json_agg(json_build_object('chat_id', id, 'epoch', epoch, 'snapshot_version', snapshot_version,
            'history_version', history_version, 'status', status)), '[]')
        from chats where worker_id = $1
    ) as owned,
    (select array_agg(worker_id order by worker_id) from replicas) as ring,
    exists (select from replicas where worker_id = $1 and drain_requested) as drain,
    {server} as server

-- fragment: token
-- The transaction that wrote the row last: it changes with each renewal, also of a replica of the previous version and
-- whatever the clock does, and with nothing else.
replicas.xmin::text

-- name: lock_replica
-- Nothing if somebody holds the row: a burial waits for nobody.
select {token} as token, name, {server} as server from replicas where worker_id = $1 for update skip locked

-- name: select_replica
-- Also of a worker without a row, of which the server alone is known.
select {token} as token, coalesce(name, '') as name, {server} as server
from (values ($1::uuid)) as asked (worker_id) left join replicas on replicas.worker_id = asked.worker_id

-- name: delete_replica
delete from replicas where worker_id = $1 returning name

-- name: disown
-- A statement after the one that locked the replica's row: then claims of this worker are committed, or fail.
-- A chat that somebody holds is left to a later burial: it delays itself, and no other. What may be damaged of a chat is
-- not read: it would keep all of them.
with owned as (
    select id from chats where worker_id = $1 order by id for update skip locked
),
{wal},
freed as (
    update chats set
        worker_id = null,
        cause = $2,
        {next_version},
        claimable_since = statement_timestamp(),
        updated_at = statement_timestamp()
    from owned, wal
    where chats.id = owned.id
    returning {framed}
),
logged as (
    insert into takeovers (chat_id, owner_id, cause, from_worker, from_name)
    select id, owner_id, $2, $1, $3 from freed
),
lost as (
    -- The attempts that were under way, or may have been: what they cost is not known.
    insert into usage_events (chat_id, owner_id, root_id, history_version, attempt, epoch, outcome)
    select id, owner_id, root_id, history_version, attempt, epoch, 'lost' from freed
    where attempt > 0 and retry_at is null and open_calls = 0 and status in ('running', 'interrupting')
    on conflict do nothing
)
select * from freed

-- name: count_owned
select count(*) from chats where worker_id = $1

-- name: select_stalled
-- Active, yet waiting for its client to send the other half of a statement, or to take the answer. Without a transaction
-- ID it has locked no row. One does not look at others' sessions: only at those of our role, database and name.
select pid, extract(epoch from state_change)::text as token
from pg_stat_activity
where state = 'active' and wait_event in ('ClientRead', 'ClientWrite') and backend_xid is not null
    and usename = current_user and datname = current_database() and application_name like 'chatcluster %'

-- name: end_stalled
-- Those that are where they were when they were seen first.
select count(pg_terminate_backend(pg_stat_activity.pid))
from pg_stat_activity join unnest($1::integer[], $2::text[]) as stalled (pid, token)
    on stalled.pid = pg_stat_activity.pid and stalled.token = extract(epoch from state_change)::text
where state = 'active'

-- name: select_heartbeats
select worker_id, {token} as token, session_locks,
    case when isfinite(heartbeat_at) then extract(epoch from statement_timestamp() - heartbeat_at) end::float8
        as age_seconds, wal_timeline() as timeline
from replicas
union all
select distinct worker_id, '', 0::smallint, null::float8, null::bigint
from chats
where worker_id is not null and not exists (select from replicas where replicas.worker_id = chats.worker_id)
order by worker_id

-- name: list_replicas
select worker_id, name, address, version, slots, draining, {moment started_at} as started_at,
    (select count(*) from chats where chats.worker_id = replicas.worker_id) as chats,
    case when isfinite(heartbeat_at) then extract(epoch from statement_timestamp() - heartbeat_at) end::float8
        as heartbeat_age_seconds
from replicas
order by worker_id

-- name: are_unlocked
-- Until the end of the transaction they cannot be taken.
select bool_and(pg_try_advisory_xact_lock_shared(key)) from unnest($1::bigint[]) as key
