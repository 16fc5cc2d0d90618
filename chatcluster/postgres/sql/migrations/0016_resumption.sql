-- Which attempts failed, and the answer that its provider goes on with. Columns with constant defaults rewrite nothing:
-- the lock is held for a moment only. A replica of the previous version leaves both as they are: an answer names the
-- history and the attempt that it belongs to, and is none for any other.
alter table chats
    add column failed integer not null default 0,
    add column answer text not null default '';
