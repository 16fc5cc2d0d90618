-- The queries of registry.py. See queries.py for the form of this file.

-- name: register
-- A worker's ID is new for every incarnation, so a row in conflict is our own, of a request without an answer.
insert into replicas (worker_id, name, address, version, slots, draining) values ($1, $2, $3, $4, $5, $6)
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
    (select array_agg(worker_id order by worker_id) from replicas) as ring

-- name: lock_replica
select extract(epoch from statement_timestamp() - heartbeat_at)::float8 as heartbeat_age_seconds
from replicas where worker_id = $1 for update

-- name: delete_replica
delete from replicas where worker_id = $1

-- name: disown
-- A statement after the one that locked the replica's row: then claims of this worker are committed, or fail.
-- Locked in the order of ids, so that two that free the chats of a worker without a row do not wait in a circle.
with owned as (
    select id from chats where worker_id = $1 order by id for update
)
update chats set
    worker_id = null,
    snapshot_version = snapshot_version + 1,
    claimable_since = statement_timestamp(),
    updated_at = statement_timestamp()
from owned
where chats.id = owned.id
returning {chat}

-- name: end_frozen
-- Active, yet waiting for its client to send the other half of a statement, or to take the answer. Without a transaction
-- ID it has locked no row. One does not look at others' sessions: only at those of our role, database and name.
select count(pg_terminate_backend(pid))
from pg_stat_activity
where state = 'active' and wait_event in ('ClientRead', 'ClientWrite') and backend_xid is not null
    and state_change < clock_timestamp() - $1::float8 * interval '1 second'
    and usename = current_user and datname = current_database() and application_name like 'chatcluster %'

-- name: select_dead
select worker_id from replicas where heartbeat_at <= statement_timestamp() - $1::float8 * interval '1 second'
union
select worker_id from chats
where worker_id is not null and not exists (select from replicas where replicas.worker_id = chats.worker_id)
order by worker_id

-- name: list_replicas
select worker_id, name, address, version, slots, draining, started_at,
    (select count(*) from chats where chats.worker_id = replicas.worker_id) as chats,
    extract(epoch from statement_timestamp() - heartbeat_at)::float8 as heartbeat_age_seconds
from replicas
order by worker_id

-- name: try_lock
select pg_try_advisory_lock($1)

-- name: is_free
-- Takes the lock and lets it go within one statement, if it is free. True if it was.
select case when pg_try_advisory_lock_shared($1) then pg_advisory_unlock_shared($1) else false end

-- name: await_lock
select await_session_lock_shared($1)

-- name: unlock
select pg_advisory_unlock_shared($1)
