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
where usename = current_user and datname = current_database() and application_name = 'chatcluster transactions'
