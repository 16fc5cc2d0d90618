-- The queries of accounts.py. See queries.py for the form of this file.

-- fragment: token
tokens.id, tokens.user_id, users.name as user_name, tokens.name, {moment tokens.created_at} as created_at,
{moment tokens.last_used_at} as last_used_at, {moment tokens.expires_at} as expires_at, tokens.scopes

-- name: select_token
select tokens.user_id, users.name, users.admin, secret_digest, {moment tokens.expires_at} as expires_at, tokens.scopes,
    extract(epoch from {moment tokens.expires_at} - statement_timestamp())::float8 as expires_in_seconds,
    last_used_at is null or last_used_at < statement_timestamp() - interval '1 minute' as note_use
from tokens join users on users.id = tokens.user_id
where tokens.id = $1 and revoked_at is null and (tokens.expires_at is null or tokens.expires_at > statement_timestamp())

-- name: note_use
-- Not if somebody holds the row: that is no reason to keep a request waiting.
update tokens set last_used_at = statement_timestamp()
where id in (
    select id from tokens
    where id = $1 and (last_used_at is null or last_used_at < statement_timestamp() - interval '1 minute')
    for no key update skip locked
)

-- name: insert_user
insert into users (name, admin) values ($1, $2) on conflict (name) do nothing

-- name: select_user
select id, name, admin from users where name = $1

-- name: insert_token
with tokens as (
    insert into tokens (id, user_id, name, secret_digest, expires_at, scopes)
    select $1, id, $3, $4, $5, $6 from users where id = $2
    returning *
)
select {token} from tokens join users on users.id = tokens.user_id

-- name: list_tokens
select {token} from tokens join users on users.id = tokens.user_id where revoked_at is null order by tokens.created_at

-- name: revoke
update tokens set revoked_at = statement_timestamp() where id = $1 and revoked_at is null returning id
