-- The WAL timeline on which a chat was written last: the first write after a failover has another one, and leaps. Rows
-- from before, and those that the previous version adds, have none, until their next write; one that it changes keeps the
-- timeline of the write before. A column without a default takes no rewrite: the lock is held for a moment only.
alter table chats add column timeline bigint;

-- The timeline that the server writes on. A session may see another one than before: its server was a standby, or a
-- pooler has led it to another server. Null where the server does not tell: some that share their storage do not know the
-- functions (and lose nothing when they fail over), a role may be kept from them, and a standby writes nothing.
create function wal_timeline() returns bigint
    language plpgsql
    stable
as $$
begin
    return ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint;
exception
    when others then
        return null;
end
$$;
