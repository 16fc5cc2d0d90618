-- The queries of migrate.py. See queries.py for the form of this file.

-- name: create_ledger
create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    checksum text not null,
    breaking boolean not null,
    applied_at timestamptz not null default statement_timestamp()
)

-- name: has_ledger
select to_regclass('schema_migrations') is not null

-- name: select_applied
select version, name, checksum, breaking from schema_migrations order by version

-- name: insert_applied
insert into schema_migrations (version, name, checksum, breaking) values ($1, $2, $3, $4)

-- name: wait_for_lock
select pg_advisory_lock($1)
