-- One row for each turn that ended, written by the transaction that ended it: readers are told of each once, wherever
-- their cursors come from. The snapshot version of that transaction says where in the order of events it belongs.
-- A turn that a replica of the previous version ends has none, and its readers hear of its end by messages and status
-- alone, as before. There is no foreign key: it would be checked with every turn, and what a chat that is gone leaves
-- behind goes with its age.
create table turns (
    chat_id uuid not null,
    revision bigint not null check (revision >= 1),
    message_id bigint not null,
    outcome text not null,
    code text,
    duration_ms bigint not null check (duration_ms >= 0),
    ended_at timestamptz not null default statement_timestamp(),

    primary key (chat_id, revision),
    constraint error_has_code check ((code is not null) = (outcome = 'error'))
);

create index turns_by_age on turns (ended_at);
