-- What attempts at the model cost. A row is written in the transaction that ends its attempt, and never changed: so it
-- outlives edits, and has no foreign key, as it outlives its chat. Its key is what an attempt is known by, so that each is
-- there once, whoever books it.
create table usage_events (
    chat_id uuid not null,
    history_version bigint not null,
    attempt bigint not null,
    owner_id uuid not null,
    epoch bigint not null,
    at timestamptz not null default statement_timestamp(),
    outcome text not null,
    model text,
    provider text,
    input_tokens bigint,
    cached_input_tokens bigint,
    cache_write_tokens bigint,
    output_tokens bigint,
    reasoning_tokens bigint,
    cost_micros bigint,

    primary key (chat_id, history_version, attempt)
);

create index usage_events_by_owner on usage_events (owner_id, at);
-- They come in the order of time, so that a few bytes for many pages tell where a day is.
create index usage_events_by_age on usage_events using brin (at);

-- What a turn cost; null for those of a replica of the previous version.
alter table turns add column usage json;

-- How much may be spent in a period: by a user, by each user of a group, by everybody else. A null limits nothing.
create table usage_limits (
    subject text not null check (subject in ('default', 'group', 'user')),
    name text not null default '',
    period text not null check (period in ('day', 'week', 'month')),
    cost_micros bigint check (cost_micros >= 0),
    tokens bigint check (tokens >= 0),

    primary key (subject, name, period),
    constraint default_has_no_name check ((subject = 'default') = (name = ''))
);

create table group_members (
    user_id uuid not null references users,
    group_name text not null,

    primary key (user_id, group_name)
);
