-- The queries of migrate.py. See queries.py for the form of this file.

-- name: select_server
select
    current_setting('server_version_num')::integer / 10000 as version,
    current_setting('server_encoding') as encoding,
    current_schema() as schema,
    current_setting('default_transaction_isolation') as isolation,
    current_setting('session_replication_role') as replication_role,
    current_setting('default_transaction_read_only')::boolean as read_only,
    current_setting('synchronous_commit') as synchronous_commit,
    pg_is_in_recovery() as standby,
    to_regclass('schema_migrations') is not null as has_ledger

-- name: create_ledger
create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    checksum text not null,
    breaking boolean not null,
    applied_at timestamptz not null default statement_timestamp()
)

-- name: select_applied
select version, name, checksum, breaking from schema_migrations order by version

-- name: insert_applied
insert into schema_migrations (version, name, checksum, breaking) values ($1, $2, $3, $4)

-- name: try_lock
select pg_try_advisory_lock($1)

-- name: select_forbidden
-- One of the tables beside the ledger that we may not work with, if there is one.
select tables.relname
from pg_class as ledger
join pg_class as tables using (relnamespace, relowner, relkind)
where ledger.oid = to_regclass('schema_migrations') and tables.relname <> 'schema_migrations'
    and not (
        has_table_privilege(tables.oid, 'select') and has_table_privilege(tables.oid, 'insert')
        and has_table_privilege(tables.oid, 'update') and has_table_privilege(tables.oid, 'delete')
    )
limit 1

-- name: select_holders
-- The sessions that hold tables of ours for longer than a request takes, the longest first.
select pid, coalesce(nullif(application_name, ''), 'without a name') as application,
    string_agg(distinct relation::regclass::text, ', ') as tables
from pg_locks
join pg_stat_activity using (pid)
join pg_class on pg_class.oid = relation and relkind = 'r' and relnamespace = current_schema()::regnamespace
where granted and pid <> pg_backend_pid() and xact_start < clock_timestamp() - interval '200 ms'
group by pid, application_name, xact_start
order by xact_start
limit 3
