-- The queries of sessions.py. See queries.py for the form of this file.

-- fragment: valid
tokens.revoked_at is null and (tokens.expires_at is null or tokens.expires_at > statement_timestamp())

-- fragment: session
-- $2: after how many hours without use it ends.
users.id as user_id, users.name, users.admin, tokens.id as token_id, tokens.scopes,
{moment least(sessions.expires_at, tokens.expires_at)} as expires_at,
extract(epoch from {moment least(sessions.expires_at, tokens.expires_at)} - statement_timestamp())::float8
    as expires_in_seconds,
least({moment sessions.last_used_at} + $2::float8 * interval '1 hour', '9999-12-30') as idle_expires_at

-- fragment: opened
-- For the token ``allowed``; the oldest sessions of a token make room for one more.
new_session as (
    insert into sessions (secret_digest, token_id, expires_at)
    select $1, allowed.token_id, statement_timestamp() + $3::float8 * interval '1 hour'
    from allowed join tokens on tokens.id = allowed.token_id and {valid}
    returning *
),
crowded as (
    delete from sessions where secret_digest in (
        select sessions.secret_digest from sessions join allowed using (token_id)
        order by sessions.created_at desc
        offset $4::bigint - 1
        for update of sessions skip locked
    )
)
select {session}
from new_session as sessions join tokens on tokens.id = sessions.token_id join users on users.id = tokens.user_id

-- name: open
with allowed as (
    select $5::text as token_id
),
{opened}

-- name: redeem
-- Of two that come with one code the second waits for the first, and finds nothing.
with used as (
    delete from session_codes where code_digest = $5 returning token_id, expires_at
),
allowed as (
    select token_id from used where expires_at > statement_timestamp()
),
{opened}

-- name: select_session
select {session},
    sessions.last_used_at < statement_timestamp() - interval '1 minute' as note_use
from sessions join tokens on tokens.id = sessions.token_id join users on users.id = tokens.user_id
where sessions.secret_digest = $1 and {valid}
    and sessions.expires_at > statement_timestamp()
    and {moment sessions.last_used_at} + $2::float8 * interval '1 hour' > statement_timestamp()

-- name: note_use
-- Not if somebody holds the row: that is no reason to keep a request waiting.
update sessions set last_used_at = statement_timestamp()
where secret_digest in (
    select secret_digest from sessions
    where secret_digest = $1 and last_used_at < statement_timestamp() - interval '1 minute'
    for no key update skip locked
)

-- name: close
delete from sessions where secret_digest = $1 returning token_id

-- name: add_code
with crowded as (
    delete from session_codes where code_digest in (
        select code_digest from session_codes where token_id = $2
        order by created_at desc
        offset $4::bigint - 1
        for update skip locked
    )
)
insert into session_codes (code_digest, token_id, expires_at)
select $1, tokens.id, statement_timestamp() + $3::float8 * interval '1 second'
from tokens where tokens.id = $2 and {valid}
returning expires_at
