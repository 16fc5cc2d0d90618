-- The versions at which the history of a chat was summarised, the oldest first: what is before the newest of them is
-- told to a model no more. Null where it never was, and where an older version wrote the row.
alter table chats add column summaries json;
