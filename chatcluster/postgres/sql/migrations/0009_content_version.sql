-- Of the newest content in a chat's history and queue: a replica that cannot read that claims other chats. What is there
-- now, and what a replica of the previous version adds, is of version 1. A constant default rewrites nothing.
alter table chats add column content_version integer not null default 1 check (content_version >= 1);
