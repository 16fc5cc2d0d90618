-- Chats that a model is to name, and from when on somebody may try: whoever takes one puts that off for as long as a try
-- may take. A row of its own, so that no row of a chat gets longer, and no index of theirs.
create table titles_wanted (
    chat_id uuid primary key references chats on delete cascade,
    due timestamptz not null default statement_timestamp(),
    tries integer not null default 0
);
