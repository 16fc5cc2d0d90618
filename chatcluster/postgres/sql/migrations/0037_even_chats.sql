-- How a chat's messages are read does not depend on how many other chats have. Counted as they are, few large chats make
-- Postgres go through everybody's messages in the order of their IDs, and many short ones sort those of a long chat. A
-- hundred messages a chat, from the next ANALYZE on: more than any statement takes at once, and few beside all of them.
alter table messages alter column chat_id set (n_distinct = -0.01);
