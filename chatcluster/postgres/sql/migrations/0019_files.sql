-- Files that users send along. user_id has no foreign key, as in chats. size_bytes is what is reserved until the upload is
-- finished. A file never changes.
create table files (
    id uuid primary key default gen_random_uuid(),
    owner_id uuid not null,
    name text not null,
    media_type text,
    size_bytes bigint not null check (size_bytes >= 0),
    sha256 bytea check (octet_length(sha256) = 32),
    created_at timestamptz not null default statement_timestamp(),
    finished_at timestamptz,

    constraint finished_is_known check (
        finished_at is null or (media_type is not null and sha256 is not null)
    )
);

create index files_by_owner on files (owner_id, created_at desc, id desc);
create index files_by_age on files (created_at);

create table file_chunks (
    file_id uuid not null references files (id) on delete cascade,
    number integer not null check (number >= 0),
    data bytea not null,

    primary key (file_id, number)
);

-- An image as models take it, where that is not the file itself.
create table file_renditions (
    file_id uuid primary key references files (id) on delete cascade,
    media_type text not null,
    data bytea not null
);

-- What is uploaded is compressed already, as a rule, and is read as a whole.
alter table file_chunks alter column data set storage external;
alter table file_renditions alter column data set storage external;

-- Which files a chat has, in the messages of its history or of its queue: those cannot be deleted. A replica of the
-- previous version that takes messages away leaves references behind until the messages are purged.
create table chat_files (
    id bigint generated always as identity primary key,
    chat_id uuid not null references chats (id) on delete cascade,
    file_id uuid not null references files (id),
    message_id bigint references messages (id) on delete cascade,
    queued_id bigint references queued_messages (id) on delete cascade,

    constraint reference_is_of_one check (num_nulls(message_id, queued_id) = 1)
);

create index chat_files_by_chat on chat_files (chat_id, message_id);
create index chat_files_by_file on chat_files (file_id);
create index chat_files_by_message on chat_files (message_id) where message_id is not null;
create index chat_files_by_queued on chat_files (queued_id) where queued_id is not null;
