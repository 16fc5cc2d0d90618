-- The ledger of one workspace: SQLite.

-- name: schema
CREATE TABLE IF NOT EXISTS chats (
    chat_id TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS calls (
    number INTEGER PRIMARY KEY,
    call_id TEXT NOT NULL UNIQUE,
    chat_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    kind TEXT NOT NULL,
    input BLOB,
    state TEXT NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    error TEXT,
    result BLOB,
    started_at REAL,
    ended_at REAL,
    output_bytes INTEGER NOT NULL DEFAULT 0,
    kept_bytes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS whole_calls ON calls (number) WHERE input IS NOT NULL;
CREATE INDEX IF NOT EXISTS running_calls ON calls (number) WHERE state = 'running';

-- name: epoch
SELECT epoch FROM chats WHERE chat_id = ?;

-- name: raise_epoch
INSERT INTO chats (chat_id, epoch) VALUES (?, ?)
ON CONFLICT (chat_id) DO UPDATE SET epoch = max(epoch, excluded.epoch);

-- name: call
SELECT * FROM calls WHERE call_id = ?;

-- name: begin
INSERT INTO calls (call_id, chat_id, digest, kind, input, state, started_at)
VALUES (:call_id, :chat_id, :digest, :kind, :input, 'running', :started_at);

-- name: bury
INSERT INTO calls (call_id, chat_id, digest, kind, state) VALUES (?, ?, '', '', 'buried');

-- name: end
UPDATE calls
SET state = :state, exit_code = :exit_code, signal = :signal, error = :error, result = :result,
    ended_at = :ended_at, output_bytes = :output_bytes, kept_bytes = :kept_bytes
WHERE number = :number;

-- name: running
SELECT * FROM calls WHERE state = 'running' ORDER BY number;

-- name: commands
SELECT * FROM calls WHERE kind = 'execute' AND input IS NOT NULL
ORDER BY state = 'running' DESC, number DESC LIMIT ?;

-- name: too_old
-- Ended calls beyond the newest :calls_max, or whose output and newer ones' are more than :bytes_max.
SELECT number FROM (
    SELECT number, input, row_number() OVER newest AS place,
           sum(kept_bytes + coalesce(length(result), 0)) OVER newest AS bytes
    FROM calls WHERE state <> 'running' AND input IS NOT NULL
    WINDOW newest AS (ORDER BY number DESC)
) WHERE place > :calls_max OR bytes > :bytes_max;

-- name: strip
UPDATE calls SET input = NULL, result = NULL, kept_bytes = 0 WHERE number = ?;
