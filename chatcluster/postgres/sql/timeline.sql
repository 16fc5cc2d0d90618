-- What a failover makes of a chat, where an update is one statement: the rule of chat/timeline.py, shared as
-- fragments.sql is. ``wal_timeline`` is in the migrations.

-- fragment: next_version
-- The next version is one step, or the first one above a leap.
timeline = coalesce(wal.timeline, chats.timeline),
snapshot_version = chats.snapshot_version + 1
    + case when chats.timeline <> wal.timeline then {versions_forgotten_max} else 0 end,
reset_version = case
    when chats.timeline <> wal.timeline then chats.snapshot_version + {versions_forgotten_max} else chats.reset_version
end,
queue_version = case
    when chats.timeline <> wal.timeline then chats.snapshot_version + {versions_forgotten_max} else chats.queue_version
end

-- fragment: wal
wal as materialized (select wal_timeline() as timeline)
