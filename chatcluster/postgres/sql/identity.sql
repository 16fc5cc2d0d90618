-- The queries of identity.py. See queries.py for the form of this file.

-- name: has_identity
select to_regclass('cluster_identity') is not null

-- name: select_identity
select id::text as id, oid::text as database_oid,
    has_function_privilege('pg_control_system()', 'execute') as may_ask_system
from cluster_identity, pg_database where datname = current_database()

-- name: select_system
-- A statement of its own: the right to call a function is checked before anything is evaluated.
select system_identifier::text from pg_control_system()

-- name: renew_identity
insert into cluster_identity default values
on conflict (singleton) do update set id = gen_random_uuid()
