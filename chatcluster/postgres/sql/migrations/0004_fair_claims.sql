-- Columns that have a constant default, or none, take no rewrite: the lock is held for a moment only. The indexes are
-- partial and nearly empty; making them takes one read of the table, during which no chat is changed.
--
-- failures and takeovers start anew with each history; a replica of the previous version leaves them as they are, which
-- makes a turn's bounds a little wider for as long as both versions run.
-- content_bytes is null where it is not known: in rows from before, and in those that the previous version adds. It is
-- then counted when next a message is sent.
alter table chats
    add column failures integer not null default 0,
    add column takeovers integer not null default 0,
    add column content_bytes bigint;

create index chats_claimable_by_owner on chats (owner_id, claimable_since)
    where claimable_since is not null and status = 'running';
create index chats_suspected on chats (claimable_since)
    where claimable_since is not null and status = 'running' and takeovers >= 3;
