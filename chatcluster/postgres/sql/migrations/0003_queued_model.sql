-- A message may name the model that is to answer it, and keeps it while it waits. What a replica of the previous version
-- queues has none, and is answered by the chat's.
alter table queued_messages add column model text;
