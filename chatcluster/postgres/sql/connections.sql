-- The queries of postgres/. See queries.py for the form of this file.

-- name: rest_of_sessions
-- A session that waits for the rest of a statement is called active, and rests. Where states are not collected, or not
-- to be seen, none does.
select pid, case when state like 'idle%' or (state = 'active' and wait_event = 'ClientRead') then state_change end
    as rests_since
from pg_stat_activity
where pid = any ($1::integer[])

-- name: end_lost
-- Those of our transactions that still rest where they did. Another server than theirs may have been asked: so at
-- worst it is one that another replica repeats, and no session of anybody else, nor one that is to hold a lock.
select count(pg_terminate_backend(pg_stat_activity.pid))
from pg_stat_activity join unnest($1::integer[], $2::timestamptz[]) as lost (pid, rests_since)
    on lost.pid = pg_stat_activity.pid and lost.rests_since = state_change
where usename = current_user and datname = current_database()
    and application_name in ('chatcluster transactions', 'chatcluster workspace host')

-- name: select_room
-- How many connections all replicas may have together: the least of what the role, the database and the server allow,
-- each without those that others have of it. Ours have the names $1. Replicas of another role are others, of which each
-- has one session of the name $2. The limits of roles and databases are not for a superuser, and what is reserved is.
-- Workers of a parallel query have its name, and no connection; what others' sessions are is not for all to see.
with sessions as (
    select usename = session_user as of_role, datname = current_database() as of_database,
        application_name = any ($1::text[]) as of_replica, application_name = $2 as of_heartbeat
    from pg_stat_activity
    where usename is not null and datname is not null and coalesce(backend_type, 'client backend') = 'client backend'
),
taken as (
    select count(*) as of_server, count(*) filter (where of_role) as of_role,
        count(*) filter (where of_database) as of_database,
        count(*) filter (where of_database and of_heartbeat) as strangers
    from sessions where not (of_role and of_database and of_replica)
)
select strangers, (select count(*) from sessions where of_role and of_database and of_replica) as ours, least(
    case when rolconnlimit >= 0 and not rolsuper then rolconnlimit - of_role end,
    case when datconnlimit >= 0 and not rolsuper then datconnlimit - of_database end,
    current_setting('max_connections')::bigint - of_server - case when rolsuper then 0 else
        current_setting('superuser_reserved_connections')::bigint
        + coalesce(current_setting('reserved_connections', true), '0')::bigint
    end
) as connections
from taken, pg_roles, pg_database
where rolname = session_user and datname = current_database()
