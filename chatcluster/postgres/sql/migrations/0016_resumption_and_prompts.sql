-- Which attempts failed, and the answer that its provider goes on with. Columns with constant defaults rewrite nothing:
-- the lock is held for a moment only. A replica of the previous version leaves both as they are: an answer names the
-- history and the attempt that it belongs to, and is none for any other.
alter table chats
    add column failed integer not null default 0,
    add column answer text not null default '';

-- What models are told before all else: by a user, or under the ID 0 for all of the deployment. A replica of the previous
-- version tells them nothing of it.
create table prompts (
    owner_id uuid primary key,
    text text not null,
    updated_at timestamptz not null default statement_timestamp()
);

-- A chat's own. Empty: it has none, whatever its first message was in previous versions.
create table chat_prompts (
    chat_id uuid primary key references chats (id) on delete cascade,
    text text not null
);
