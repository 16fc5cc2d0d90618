-- What front doors keep of a turn besides the chat: the caller's parameters, by the message that began it. The chat has
-- the rest. A new table: nothing that is there is touched, and replicas of the previous version do not know it.
create table responses (
    chat_id uuid not null references chats (id) on delete cascade,
    message_id bigint not null,
    revision bigint not null,
    parameters json not null,
    transient boolean not null default false,
    created_at timestamptz not null default statement_timestamp(),

    primary key (chat_id, message_id)
);

create index responses_transient on responses (created_at) where transient;
