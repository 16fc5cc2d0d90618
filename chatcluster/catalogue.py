"""Every event that ``telemetry`` is told of: its name, how loud the log says it, and what it means.

Names are dotted, a noun and what became of it. ``DEBUG`` is for the metrics, and for those who look closely; at
``INFO`` such events would be all one sees. ``WARNING`` is for what somebody should look at. What ends in ``.crashed``
is an error that nobody foresaw: it has a traceback, and a count of its own in the metrics.

A test compares this with the code: what is emitted stands here, and what stands here is emitted.
"""

from __future__ import annotations

from enum import Enum, auto


class Level(Enum):
    DEBUG = auto()
    INFO = auto()
    WARNING = auto()


EVENTS: dict[Level, dict[str, str]] = {
    Level.DEBUG: {
        "chat.attempt": "an attempt at a model response ended, and how",
        "chat.claimed": "this replica took a chat",
        "chat.compaction": "a summary was written in the place of a history, or not, and how long that took",
        "chat.tenure": "a tenure ended on this replica, and with which status",
        "http.connection_dropped": "a connection was closed because its place was needed",
        "http.request": "a request was answered",
        "lease.renewed": "a heartbeat was written",
        "store.transaction": "a Postgres transaction ended, and how",
        "stream.closed": "an event stream ended, and why",
        "stream.opened": "an event stream was opened",
        "tool.called": "a call of a tool ended on this replica, and how",
    },
    Level.INFO: {
        "burial.failed": "a dead replica could not be buried; the next look tries again",
        "chat.action_expired": "calls that waited for somebody were answered, as their time was over",
        "chat.actions_unreadable": "what a chat waits for is not understood by this version",
        "chat.attempt_failed": "the model's server failed an attempt",
        "chat.compaction_failed": "a history could not be summarised",
        "chat.damaged": "a chat's row is damaged, and was shown without what cannot be read",
        "chat.error_unreadable": "the error in a chat's row is not understood by this version",
        "chat.passed_over": "a chat could not be claimed, and was left alone for a while",
        "chat.retry_unreadable": "the scheduled retry in a chat's row is not understood by this version",
        "chat.returned": "a chat that was ours in the database alone was given back",
        "chat.summaries_unreadable": "where a chat was summarised cannot be read; the whole history is looked through",
        "chat.taken_over": "a chat was claimed whose last owner did not end in order",
        "chat.tools_unreadable": "the client's tools in a chat's row are not understood by this version",
        "chat.turn": "a turn ended, and how: the one line that it has at this level",
        "chat.unreadable": "a chat's row or history cannot be read by this version",
        "chat.unreturnable": "a chat that is ours in the database alone could not be given back",
        "claim.failed": "Postgres could not be asked for chats to claim",
        "claim.unreadable": "a claim met rows that this version cannot read, and goes on without them",
        "deadlines.failed": "Postgres could not be asked for calls whose time is over; the next sweep asks",
        "feed.read_failed": "a feed could not read its chat; tried again",
        "feed.went_back": "the database is older than what a feed has shown: readers start anew",
        "feeds.poll_failed": "the poll behind lost hints failed; the next one comes",
        "histories.unreadable": "histories that were read together cannot be; each is read alone",
        "history.unreadable": "the model that was asked last could not be read from a history",
        "http.reader_stalled": "a reader took too little, and was cut off",
        "lease.renewal_failed": "a heartbeat failed; tried again until the lease ends",
        "log.not_kept": "an old log could not be kept",
        "log.not_rotated": "a log has grown too large, and could not be rotated",
        "mcp.call_failed": "a call of a tool of an MCP server failed; the model is told",
        "mcp.directory_failed": "the servers of tools could not be read again; the copy of before is worked with",
        "mcp.list_failed": "a server's tools could not be had; turns go on without them",
        "mcp.login_refused": "an authorization server does not accept a user's login any more; the user signs in again",
        "mcp.process_ended": "the process that speaks to MCP servers ended; the next call starts another one",
        "message.part_unknown": "a message has parts of a kind that this version does not know",
        "message.unreadable": "a message cannot be read by this version",
        "migration.said": "a migration waits, and for what",
        "models.none": "there is no provider in the database and none in the settings: no chat can be answered",
        "models.unknown": "the providers and models could not be read; those that are known are used on",
        "models.unreadable": "a provider or a model cannot be read by this version",
        "notice.not_understood": "a hint is not understood by this version; taken for a gap",
        "page.failed": "the built page cannot be read; what was read before is served",
        "page.read": "the files of the built page were read",
        "postgres.connection_lost": "a connection to Postgres that gave no sign of life was given up",
        "postgres.doubtful": "something about the database makes one doubt that it will work",
        "postgres.full": "Postgres takes no more connections; fewer are used",
        "postgres.not_asked": "a silent connection's state could not be asked for",
        "postgres.stray_error": "an error on a connection that no transaction waited for",
        "pubsub.dropped": "hints were dropped while Redis was away",
        "pubsub.lost": "Redis cannot be followed; polls serve meanwhile",
        "pubsub.refused": "Redis refuses to publish",
        "pubsub.regained": "Redis is followed again",
        "purge.deleted": "rows were deleted for good",
        "purge.failed": "Postgres could not be reached for a purge",
        "queue.unreadable": "a queued message cannot be read by this version",
        "redis.recovered": "Redis is as it should be again",
        "registry.row_unreadable": "a row of the registry cannot be read by this version",
        "relay.dial_failed": "a chat's stream could not be read; tried again",
        "replica.draining": "a signal, or an administrator, asked this replica to drain",
        "replica.incarnation_ended": "a lease ended without a drain, and why",
        "replica.started": "an incarnation began",
        "replica.waiting": "the schema is not there yet, or Postgres is not",
        "retire.failed": "the lease could not be given up; it runs out",
        "runner.partial_unreadable": "what a dead tenure had said could not be read",
        "runner.store_unavailable": "a runner's transaction is repeated until its outcome is known",
        "schema.newer": "the schema is newer than this version",
        "session.frozen": "this process stood still, so what its sessions saw is no proof",
        "session.lost": "a session lock was lost, and is taken again",
        "session.retaken": "a session lock whose connection was lost is held again",
        "session.unavailable": "a session lock could not be taken; tried again",
        "session.watch_failed": "a neighbour's session lock could not be watched; tried again",
        "session.watch_lost": "the connection that watches a neighbour was lost",
        "sign_ins.failed": "Postgres could not be asked for calls that wait for a sign-in; the next look asks",
        "sign_ins.late": "a call that waited for a sign-in was answered, or its chat moved on, before it was let in",
        "stream.dropped": "a chat's part stream was dropped",
        "stream.not_dropped": "a part stream that leaves no room could not be dropped",
        "stream.overruled": "a part stream was ahead of Postgres; the tenure goes on above it",
        "stream.refused": "Redis refuses to work on one chat's stream",
        "stream.restored": "frames that Redis had lost were appended again",
        "streams.unavailable": "Redis cannot be written to; parts pause",
        "sweep.failed": "a look for dead leases failed; the next one comes",
        "token.revocation_not_announced": "replicas were not told of a revocation; they forget the token on their own",
        "watch.poll_failed": "the poll of a user's list failed; the next one comes",
        "watch.read_failed": "a user's list could not be read; tried again",
    },
    Level.WARNING: {
        "chat.call_unrecorded": "a turn ended, as its history asks for a tool call that the ledger has no record of",
        "claim.crashed": "a claim ended in an error that nobody foresaw",
        "deadlines.crashed": "a sweep of deadlines ended in an error that nobody foresaw",
        "feed.crashed": "a feed ended in an error that nobody foresaw; its readers are cut",
        "http.crashed": "a request or a connection ended in an error that nobody foresaw",
        "lease.lost": "this process lost its lease: all its work ends, and a new incarnation begins",
        "loop.slow_step": "one step of the event loop took long: every stream stood still",
        "mcp.list_crashed": "the tools of an MCP server could not be had, by an error that nobody foresaw",
        "mcp.process_failed": "the process that speaks to MCP servers could not be started, or said nonsense",
        "mcp.secret_unreadable": "a stored secret of a server of tools has no key in CHATCLUSTER_ENCRYPTION_KEYS",
        "mcp.server_unreadable": "a server of tools has a row that this version cannot read, and is left out",
        "purge.crashed": "a round of the purge ended in an error that nobody foresaw",
        "redis.degraded": "Redis is not as it should be",
        "redis.may_evict": "Redis may drop parts when its memory is full",
        "replica.buried": "a replica was found dead, and its chats were freed",
        "runner.crashed": "a turn ended in an error that nobody foresaw",
        "tool.crashed": "a call of a tool ended in an error that nobody foresaw; the model is told that it failed",
        "toolbox.crashed": "the tools of a turn were lost in an error that nobody foresaw",
        "watch.crashed": "a user's list ended in an error that nobody foresaw; its readers are cut",
    },
}

LEVELS = {name: level for level, events in EVENTS.items() for name in events}
CRASHES = frozenset(name for name in LEVELS if name.endswith(".crashed"))
