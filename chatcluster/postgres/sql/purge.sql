-- The queries of purge.py. See queries.py for the form of this file.

-- name: is_eldest
-- Whether this worker is the one that purges: of the living replicas the one that started first.
select $1 = (select worker_id from replicas order by started_at, worker_id limit 1)

-- name: select_page
-- Chats in the order of their IDs, and which of them ever lost a message. No index has to follow what is deleted.
select
    (array_agg(id order by id desc))[1] as last_id,
    coalesce(array_agg(id) filter (where reset_version > 0), '{}') as edited_ids
from (select id, reset_version from chats where id > $1 order by id limit $2) as page

-- name: delete_messages
-- Readers see no message that is deleted, and a reader that comes back with a cursor from before an edit is told so by
-- the chat's reset_version. A message with a call that is still open stays until that is closed.
delete from messages where id in (
    select id from messages
    where chat_id = any($1::uuid[])
        and deleted_at < statement_timestamp() - $2::float8 * interval '1 second'
        and not exists (select from tool_calls where message_id = messages.id and state <> 'done')
    limit $3
    for update skip locked
)

-- name: delete_tokens
delete from tokens where id in (
    select id from tokens
    where least(revoked_at, expires_at) < statement_timestamp() - $1::float8 * interval '1 second'
    limit $2
    for update skip locked
)

-- name: delete_turns
-- A turn is of no use but to a reader that was there before it ended; and one that failed, or was stopped, to a response
-- that says so for as long as it is kept. Of all others the history tells where they ended.
delete from turns where (chat_id, revision) in (
    select chat_id, revision from turns
    where ended_at < statement_timestamp() - $1::float8 * interval '1 second'
        and (outcome = 'finished' or not exists (select from responses where responses.chat_id = turns.chat_id))
    order by ended_at
    limit $2
    for update skip locked
)

-- name: delete_sessions
delete from sessions where secret_digest in (
    select secret_digest from sessions
    where least(expires_at, {moment last_used_at} + $1::float8 * interval '1 hour') < statement_timestamp()
    limit $2
    for update skip locked
)

-- name: delete_codes
delete from session_codes where code_digest in (
    select code_digest from session_codes where expires_at < statement_timestamp()
    limit $1
    for update skip locked
)

-- name: delete_files
-- Uploads that were never finished, and files that no chat has (any more).
delete from files where id in (
    select id from files
    where created_at < statement_timestamp()
            - case when finished_at is null then $1::float8 else $2::float8 end * interval '1 second'
        and created_at < statement_timestamp() - least($1, $2) * interval '1 second'
        and not exists (select from chat_files where file_id = files.id)
    order by created_at
    limit $3
    for update skip locked
)

-- name: delete_tombstones
delete from deleted_chats where chat_id in (
    select chat_id from deleted_chats
    where deleted_at < statement_timestamp() - $1::float8 * interval '1 second'
    limit $2
    for update skip locked
)

-- name: delete_takeovers
delete from takeovers where id in (
    select id from takeovers where freed_at < statement_timestamp() - interval '7 days'
    order by freed_at limit $1 for update skip locked
)

-- name: delete_audit
delete from audit_entries where id in (
    select id from audit_entries where at < statement_timestamp() - interval '90 days'
    order by at limit $1 for update skip locked
)

-- name: delete_minutes
delete from minutes where at in (
    select at from minutes where at < statement_timestamp() - interval '7 days' limit $1 for update skip locked
)

-- name: delete_subscriptions
-- Those whose token is not valid any more.
delete from push_subscriptions where id in (
    select push_subscriptions.id from push_subscriptions left join tokens on tokens.id = token_id
    where tokens.id is null or revoked_at is not null or expires_at < statement_timestamp()
    limit $1
    for update of push_subscriptions skip locked
)

-- name: delete_keys
delete from idempotency_keys where (owner_id, key) in (
    select owner_id, key from idempotency_keys
    where created_at < statement_timestamp() - interval '24 hours'
    order by created_at
    limit $1
    for update skip locked
)

-- name: delete_transient
-- Chats that are there for answers alone that nobody wants to keep: none of them is stored, and nobody else wrote in them.
-- As with any chat, what it leaves is that it is gone.
with due as (
    select id from chats
    where id in (select chat_id from responses where transient and created_at < statement_timestamp() - interval '10 minutes')
        and status in ('waiting', 'error') and updated_at < statement_timestamp() - interval '10 minutes'
        and not exists (select from responses where responses.chat_id = chats.id and not transient)
        and not exists (
            select from messages
            where messages.chat_id = chats.id and messages.role = 'user' and messages.deleted_at is null
                and messages.revision > (select max(abs(revision)) from responses where responses.chat_id = chats.id)
        )
    limit $1
    for update skip locked
),
gone as (
    delete from chats where id in (select id from due) or root_id in (select id from due) returning id, owner_id
),
-- What asks again, with its key, is answered anew. An older key is not touched, as by delete_chat.
forgotten as (
    delete from idempotency_keys using gone
    where idempotency_keys.owner_id = gone.owner_id
        and created_at >= statement_timestamp() - interval '24 hours' and response->'chat'->>'id' = gone.id::text
),
ended as (
    delete from turns where chat_id in (select id from gone)
),
freed as (
    delete from family_orders where root_id in (select id from due)
)
insert into deleted_chats (chat_id, owner_id) select id, owner_id from gone
on conflict (chat_id) do nothing
