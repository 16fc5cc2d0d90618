-- What the requests of a chat's turn begin with, the system text and the tools: kept where a turn has more than one step,
-- for whoever owns the chat later in the same turn. ``number`` tells how often it became another one. A replica of the
-- previous version neither keeps nor reads it, and has each tenure begin anew, as ever.
create table chat_prefixes (
    chat_id uuid primary key references chats (id) on delete cascade,
    number bigint not null,
    digest text not null,
    data bytea not null
);
