-- What a page shows: pins, what led to a status, where a chat went when its replica died, what administrators did.
-- Columns with constant defaults rewrite nothing: the lock is held for a moment only. A replica of the previous version
-- leaves pins as they are, and does not say what led to a status that it writes: the cause may then be an older one.
alter table chats
    add column pinned boolean not null default false,
    add column cause text not null default '';

-- Chats that are gone for good, so that whoever was away is told of it.
create table deleted_chats (
    chat_id uuid primary key,
    owner_id uuid not null,
    deleted_at timestamptz not null default statement_timestamp()
);

create index deleted_chats_by_owner on deleted_chats (owner_id, deleted_at);

-- A chat that lost its owner, by a death or in a drain, and who took it up. Without a foreign key: what a chat that is
-- gone leaves behind goes with its age.
create table takeovers (
    id bigint generated always as identity primary key,
    chat_id uuid not null,
    owner_id uuid not null,
    cause text not null,
    from_worker uuid not null,
    from_name text not null default '',
    to_worker uuid,
    to_name text,
    freed_at timestamptz not null default statement_timestamp(),
    claimed_at timestamptz,

    constraint claimed_by_somebody check ((claimed_at is null) = (to_worker is null))
);

create index takeovers_open on takeovers (chat_id) where claimed_at is null;
create index takeovers_by_age on takeovers (freed_at);

-- A drain that an administrator asked for: the replica learns of it with its next heartbeat.
alter table replicas add column drain_requested boolean not null default false;

create table audit_entries (
    id bigint generated always as identity primary key,
    at timestamptz not null default statement_timestamp(),
    user_id uuid not null,
    user_name text not null,
    action text not null,
    target text not null,
    details json not null default '{}'
);

create index audit_entries_by_age on audit_entries (at);
