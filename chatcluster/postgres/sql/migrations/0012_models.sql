-- Providers and models, as administrators configure them. A key is sealed before it comes here, and bound to its row: a
-- copy of it in another row opens nothing. details has what no statement looks at.
create table providers (
    name text primary key check (length(name) between 1 and 64),
    kind text not null,
    base_url text not null,
    enabled boolean not null default true,
    sealed bytea,
    key_hint text,
    key_set_at timestamptz,
    details json not null default '{}',
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp(),

    constraint key_is_whole check ((sealed is null) = (key_set_at is null))
);

create table models (
    name text primary key check (length(name) between 1 and 200),
    provider text not null references providers (name),
    provider_model text not null,
    enabled boolean not null default true,
    is_default boolean not null default false,
    details json not null default '{}',
    created_at timestamptz not null default statement_timestamp(),
    updated_at timestamptz not null default statement_timestamp()
);

create index models_by_provider on models (provider);
create unique index models_default on models (is_default) where is_default;
