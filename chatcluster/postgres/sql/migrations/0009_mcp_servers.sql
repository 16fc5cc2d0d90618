-- Servers of tools. settings is what an administrator said, as JSON of ports/mcp_servers.py (McpSettings); sealed are its
-- secrets, encrypted (secrets.py), and shown what people may see of them. New tables alone, so the previous version goes
-- on as before.
create table mcp_servers (
    id uuid primary key,
    slug text not null,
    settings json not null check (json_typeof(settings) = 'object'),
    revision bigint not null default 1 check (revision >= 1),
    sealed bytea,
    shown json not null default '{}',
    secrets_at timestamptz,
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp(),

    constraint mcp_servers_slug unique (slug),
    constraint secrets_have_a_date check ((sealed is null) = (secrets_at is null))
);

-- Sign-ins under way, by the digest of their state: any replica takes the callback.
create table mcp_logins (
    state_digest bytea primary key check (octet_length(state_digest) = 32),
    server_id uuid not null references mcp_servers (id) on delete cascade,
    user_id uuid not null,
    sealed bytea not null,
    expires_at timestamptz not null
);

create index mcp_logins_by_age on mcp_logins (expires_at);

-- What an authorization server gave to a user for a server. user_id has no foreign key: the accounts may be kept
-- elsewhere. refreshing_until is a claim that ends by itself.
create table mcp_grants (
    server_id uuid not null references mcp_servers (id) on delete cascade,
    user_id uuid not null,
    sealed bytea not null,
    revision bigint not null default 1 check (revision >= 1),
    refused boolean not null default false,
    expires_at timestamptz,
    refreshing_until timestamptz,
    updated_at timestamptz not null default statement_timestamp(),

    primary key (server_id, user_id)
);

create index mcp_grants_by_user on mcp_grants (user_id);
