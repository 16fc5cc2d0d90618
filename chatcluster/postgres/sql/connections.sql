-- The queries of postgres/. See queries.py for the form of this file.

-- name: rest_of_sessions
-- A session that waits for the rest of a statement is called active, and rests. Where states are not collected, or not
-- to be seen, none does.
select pid, case when state like 'idle%' or (state = 'active' and wait_event = 'ClientRead') then state_change end
    as rests_since
from pg_stat_activity
where pid = any ($1::integer[])
