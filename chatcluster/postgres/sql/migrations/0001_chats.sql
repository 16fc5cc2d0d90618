-- Everything that a cluster keeps. The rules that chat.py decides by are repeated here as CHECKs: a row that
-- breaks one cannot exist, whoever writes it. Content is json, not jsonb: the text stays as it was sent.

create table users (
    id uuid primary key default gen_random_uuid(),
    name text not null unique,
    admin boolean not null default false,
    created_at timestamptz not null default statement_timestamp()
);

create table tokens (
    id text primary key,
    user_id uuid not null references users (id) on delete cascade,
    name text not null,
    secret_digest bytea not null check (octet_length(secret_digest) = 32),
    created_at timestamptz not null default statement_timestamp(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);

create index tokens_by_user on tokens (user_id);

-- One row per process, renewed every second: room on the page keeps the renewals heap-only.
create table replicas (
    worker_id uuid primary key,
    name text not null,
    address text not null,
    version text not null,
    slots integer not null check (slots >= 0),
    draining boolean not null default false,
    started_at timestamptz not null default statement_timestamp(),
    heartbeat_at timestamptz not null default statement_timestamp()
) with (fillfactor = 50);

-- owner_id has no foreign key: the accounts may be kept elsewhere.
-- claimable_since is set exactly while the chat waits for an owner. It is the order of the claim, and with worker_id
-- and status the only changing column with an index: all other updates are heap-only.
-- queue_length and open_calls count the rows of queued_messages and the open ones of tool_calls, so that the many
-- transactions on chats without any need not look.
create table chats (
    id uuid primary key,
    owner_id uuid not null,
    title text not null,
    model text,
    status text not null check (status in ('waiting', 'running', 'interrupting', 'requires_action', 'error')),
    archived boolean not null default false,
    archiving boolean not null default false,
    compacting boolean not null default false,
    worker_id uuid,
    epoch bigint not null default 0 check (epoch >= 0),
    snapshot_version bigint not null check (snapshot_version >= 1),
    history_version bigint not null,
    queue_version bigint not null default 0,
    reset_version bigint not null default 0,
    attempt integer not null default 0 check (attempt >= 0),
    queue_length integer not null default 0 check (queue_length between 0 and 20),
    open_calls integer not null default 0 check (open_calls >= 0),
    claimable_since timestamptz,
    retry_at timestamptz,
    action_deadline timestamptz,
    retry json,
    last_error json,
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp(),

    constraint versions_are_of_the_past check (
        history_version between 0 and snapshot_version
        and queue_version between 0 and snapshot_version
        and reset_version between 0 and history_version
    ),
    constraint owner_has_work check (
        worker_id is null or (status in ('running', 'interrupting') and not archived and epoch > 0)
    ),
    constraint claimable_is_runnable_and_unowned check (
        (claimable_since is not null) = (worker_id is null and not archived and status in ('running', 'interrupting'))
    ),
    constraint archived_is_at_rest check (not archived or (status in ('waiting', 'error') and not archiving)),
    constraint archiving_is_interrupting check (not archiving or status = 'interrupting'),
    constraint compacting_is_work check (not compacting or status in ('running', 'interrupting')),
    constraint error_says_why check ((last_error is not null) = (status = 'error')),
    constraint retry_has_time check ((retry is null) = (retry_at is null)),
    constraint retry_is_work check (retry is null or status in ('running', 'interrupting')),
    constraint action_has_deadline check ((action_deadline is not null) = (status = 'requires_action')),
    constraint open_calls_are_work check (
        open_calls = 0 or status in ('running', 'interrupting', 'requires_action')
    )
) with (fillfactor = 80);

create index chats_claimable on chats (status, claimable_since) where claimable_since is not null;
create index chats_by_worker on chats (worker_id) where worker_id is not null;
create index chats_by_owner on chats (owner_id, created_at desc, id desc);

-- Order in history is the order of ids: they are given under the lock of the chat's row.
-- Messages that an owner committed carry where they come from: the tenure (origin_epoch), the history that it worked
-- from, the event, and their place in the commit. One tenure adds to one history once: a repeat is recognised by these.
create table messages (
    id bigint generated always as identity primary key,
    chat_id uuid not null references chats (id) on delete cascade,
    revision bigint not null check (revision >= 1),
    origin_epoch bigint,
    origin_history_version bigint,
    origin_ordinal integer,
    origin_event text,
    created_at timestamptz not null default statement_timestamp(),
    deleted_at timestamptz,
    role text not null check (role in ('system', 'user', 'assistant', 'tool')),
    finish_reason text,
    model text,
    position text,
    usage json,
    content json not null check (json_typeof(content) = 'array'),

    constraint finish_reason_is_the_assistants check (finish_reason is null or role = 'assistant'),
    constraint origin_is_whole check (
        num_nulls(origin_epoch, origin_history_version, origin_ordinal, origin_event) in (0, 4)
    ),
    constraint messages_origin unique (chat_id, origin_epoch, origin_history_version, origin_ordinal)
);

create index messages_by_chat on messages (chat_id, id) where deleted_at is null;
create index messages_by_revision on messages (chat_id, revision) where deleted_at is null;

-- The lowest position is the head of the queue; a message that is moved to the head gets one below it.
create table queued_messages (
    id bigint generated always as identity primary key,
    chat_id uuid not null references chats (id) on delete cascade,
    position bigint not null,
    created_at timestamptz not null default statement_timestamp(),
    content json not null check (json_typeof(content) = 'array'),

    constraint queue_is_ordered unique (chat_id, position)
);

-- The ledger: every call that a model asked for, from the commit of the message that asks to its one result.
-- A provider may use an ID again in a later message, but not while the first call is open.
create table tool_calls (
    id bigint generated always as identity primary key,
    chat_id uuid not null references chats (id) on delete cascade,
    message_id bigint not null references messages (id) on delete cascade,
    call_id text not null,
    name text not null,
    state text not null check (state in ('pending', 'approval', 'started', 'done')),
    created_at timestamptz not null default statement_timestamp(),
    finished_at timestamptz,

    constraint call_of_message unique (message_id, call_id),
    constraint done_has_time check ((state = 'done') = (finished_at is not null))
) with (fillfactor = 90);

create unique index tool_calls_open on tool_calls (chat_id, call_id) where state <> 'done';

-- What was answered to a request with an Idempotency-Key. Without a response there is no row that others can see:
-- key, effect and response are of one transaction.
create table idempotency_keys (
    owner_id uuid not null,
    key text not null,
    request_digest bytea not null,
    created_at timestamptz not null default statement_timestamp(),
    response json,

    primary key (owner_id, key)
);

create index idempotency_keys_by_age on idempotency_keys (created_at);

-- Waits until the session lock is granted (true) or for half a minute (false). A statement holds back the clean-up
-- of dead rows in the whole database for as long as it runs; one that waited for hours would bloat every table.
create function await_session_lock(lock_key bigint) returns boolean
    language plpgsql
    set lock_timeout = '30s'
as $$
begin
    perform pg_advisory_lock(lock_key);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
