-- Where chats work: templates, the hosts that run workspaces, the workspaces, and what is told of each while it is made.
-- New tables, without foreign keys to chats and users: no chat waits for a workspace's row, and replicas of the previous
-- version do not know them. What a chat leaves behind the hosts delete.
create table workspace_templates (
    id uuid primary key,
    name text not null,
    settings json not null,
    revision bigint not null default 1,
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp(),

    constraint workspace_templates_name unique (name)
);

-- The token changes with each renewal. sealed is what replicas show the host.
create table workspace_hosts (
    id uuid primary key,
    incarnation uuid not null,
    name text not null,
    address text not null,
    version text not null,
    provider text not null,
    sealed bytea not null,
    problem text not null default '',
    alive boolean not null default true,
    token uuid not null default gen_random_uuid(),
    started_at timestamptz not null default statement_timestamp(),
    heartbeat_at timestamptz not null default statement_timestamp()
) with (fillfactor = 50);

create table workspaces (
    id uuid primary key default gen_random_uuid(),
    owner_id uuid not null,
    chat_id uuid not null,
    template_id uuid not null,
    template_name text not null,
    name text not null,
    state text not null check (
        state in ('building', 'starting', 'running', 'stopping', 'stopped', 'failed', 'lost', 'deleted')
    ),
    settings json not null,
    parameters json not null,
    generation bigint not null default 1,
    host_id uuid,
    detail text not null default '',
    startup text not null default 'none',
    built boolean not null default false,
    replaced boolean not null default false,
    bump_seconds float8 not null,
    idle_seconds float8 not null,
    expires_at timestamptz,
    last_used_at timestamptz,
    created_at timestamptz not null default statement_timestamp(),
    started_at timestamptz,
    updated_at timestamptz not null default statement_timestamp(),

    constraint what_runs_has_a_host check (
        host_id is not null or state not in ('starting', 'running', 'stopping', 'lost')
    )
) with (fillfactor = 80);

create unique index workspaces_of_chats on workspaces (chat_id) where state <> 'deleted' and not replaced;
create index workspaces_by_chat on workspaces (chat_id);
create index workspaces_by_owner on workspaces (owner_id, created_at desc);
create index workspaces_by_host on workspaces (host_id);
create index workspaces_unplaced on workspaces (created_at) where host_id is null;

create table workspace_log (
    workspace_id uuid not null references workspaces (id) on delete cascade,
    number bigint generated always as identity,
    at timestamptz not null default statement_timestamp(),
    source text not null,
    line text not null,

    primary key (workspace_id, number)
);
