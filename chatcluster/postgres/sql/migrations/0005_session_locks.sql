-- How many session locks a replica holds, each on a connection of its own: one that breaks is no death. A replica of the
-- previous version does not say, and holds one. A constant default rewrites nothing: the table is locked for an instant.
alter table replicas add column session_locks smallint not null default 1 check (session_locks >= 0);
