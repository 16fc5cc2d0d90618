-- Sessions of browsers, by the digests of their cookies. A session ends with the token that opened it; a code opens one
-- session of the token that made it, once.
create table sessions (
    secret_digest bytea primary key check (octet_length(secret_digest) = 32),
    token_id text not null references tokens (id) on delete cascade,
    created_at timestamptz not null default statement_timestamp(),
    last_used_at timestamptz not null default statement_timestamp(),
    expires_at timestamptz not null
);

create index sessions_by_token on sessions (token_id, created_at);

create table session_codes (
    code_digest bytea primary key check (octet_length(code_digest) = 32),
    token_id text not null references tokens (id) on delete cascade,
    created_at timestamptz not null default statement_timestamp(),
    expires_at timestamptz not null
);

create index session_codes_by_token on session_codes (token_id, created_at);
