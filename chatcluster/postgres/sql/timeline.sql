-- What a failover makes of a chat, where an update is one statement: the rule of chat/timeline.py, shared as
-- fragments.sql is. ``wal`` is a row with the timeline that the statement writes on; wal_timeline is in the migrations.

-- fragment: wal
wal as materialized (select wal_timeline() as timeline)

-- fragment: version
-- No chat comes that far. One that says so keeps no other from what is done to both by one statement.
least(chats.snapshot_version, 9000000000000000000)

-- fragment: leapt
({version} + case when chats.timeline <> wal.timeline
    then {versions_forgotten_max} * greatest(1, wal.timeline - greatest(0, chats.timeline)) else {versions_raised} end)

-- fragment: next_reset_version
case when chats.timeline <> wal.timeline then {leapt} else chats.reset_version end

-- fragment: next_version
-- One step on, or the first one above a leap.
timeline = coalesce(wal.timeline, chats.timeline),
snapshot_version = greatest(chats.snapshot_version,
    1 + case when chats.timeline <> wal.timeline then {leapt} else {version} end),
reset_version = {next_reset_version},
queue_version = case when chats.timeline <> wal.timeline then {leapt} else chats.queue_version end
