-- What the other files share. See queries.py for the form of this file.

-- fragment: chat
chats.id, chats.owner_id, chats.title, chats.model, chats.status, chats.archived, chats.archiving, chats.compacting,
chats.worker_id, chats.epoch, chats.snapshot_version, chats.history_version, chats.queue_version, chats.reset_version,
chats.attempt, chats.retry, chats.retry_at, chats.last_error, chats.created_at, chats.updated_at,
chats.queue_length, chats.open_calls
