-- The queries of session_locks.py. See queries.py for the form of this file.

-- name: try_lock
-- The server that the lock is held on, if it was free.
select case when pg_try_advisory_lock($1) then {server} end

-- name: end_lost_holder
-- Ends the session that holds the lock $1, as long as all locks of the worker are held: $2 has their keys.
with held as (
    select pid, (classid::bigint << 32) | objid::bigint as key from pg_locks
    where locktype = 'advisory' and objsubid = 1 and mode = 'ExclusiveLock' and granted
        and database = (select oid from pg_database where datname = current_database())
)
select count(pg_terminate_backend(pid)) from held
where key = $1 and cardinality($2::bigint[]) = (select count(*) from held where key = any($2))

-- name: is_free
-- Takes the lock and lets it go within one statement, if it is free. True if it was.
select case when pg_try_advisory_lock_shared($1) then pg_advisory_unlock_shared($1) else false end

-- name: await_lock
select await_session_lock_shared($1)

-- name: unlock
-- And whether another lock is free as well; see is_free.
select pg_advisory_unlock_shared($1) as is_unlocked, pg_backend_pid() as pid,
    case when pg_try_advisory_lock_shared($2) then pg_advisory_unlock_shared($2) else false end as is_last_free

-- name: select_session
-- A worker without a row is one of this version.
select pg_backend_pid() as pid, {server} as server,
    coalesce((select session_locks from replicas where worker_id = $1), $2::smallint) as session_locks

-- name: select_pid
select pg_backend_pid()

-- name: pause
select pg_sleep($1)
