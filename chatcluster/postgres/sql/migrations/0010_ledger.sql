-- What the ledger knows of a call: what running it does, who runs it, the tenure that started it, how many workers died
-- while they ran it, the arguments that a person gave it in place of the model's, and how long it waits for somebody.
-- Columns with a constant default, or none, rewrite nothing. The wider check holds for every row there is, so none is
-- looked at; replicas of the previous version write what it allows.
alter table tool_calls
    add column effect text not null default 'once',
    add column run_by text not null default 'owner',
    add column started_epoch bigint,
    add column deaths integer not null default 0 check (deaths >= 0),
    add column digest text not null default '',
    add column arguments text,
    add column approved boolean not null default false,
    add column wait_seconds float8,
    add column deadline timestamptz,
    drop constraint tool_calls_state_check,
    add constraint tool_calls_state_check check (
        state in ('pending', 'approval', 'client', 'agents', 'sign_in', 'started', 'done')
    ) not valid;

create index tool_calls_by_chat on tool_calls (chat_id, call_id);
create index tool_calls_by_deadline on tool_calls (deadline) where deadline is not null and state <> 'done';

-- A steered message goes into history behind the next results of the turn under way.
alter table queued_messages add column steered boolean not null default false;

-- Null: none. The tools are [{name, description, parameters}], the servers are named by their slugs.
alter table chats
    add column client_tools json,
    add column mcp_servers text[];

-- The whole of a result of which the message has a part. It goes with its call, which goes with its message.
create table tool_results (
    tool_call_id bigint primary key references tool_calls (id) on delete cascade,
    data bytea not null check (octet_length(data) <= 10485760)
);

-- Not compressed: a piece of it is read without the rest.
alter table tool_results alter column data set storage external;

-- Tools that a user need not be asked about again: in one chat, or, without one, in all. user_id has no foreign key, as
-- in chats.
create table tool_permissions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null,
    chat_id uuid references chats (id) on delete cascade,
    tool text not null,
    created_at timestamptz not null default statement_timestamp(),
    expires_at timestamptz not null
);

create unique index permission_is_one
    on tool_permissions (user_id, tool, coalesce(chat_id, '00000000-0000-0000-0000-000000000000'));
create index tool_permissions_by_chat on tool_permissions (chat_id) where chat_id is not null;
