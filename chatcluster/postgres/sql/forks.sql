-- The queries of forks.py. See queries.py for the form of this file.

-- name: turn_ends
-- A turn ends before a user's message; the last one where the chat rests.
with behind as (
    select coalesce(
        (
            select min(id) from messages
            where chat_id = (select $1::uuid) and deleted_at is null and role = 'user' and id > $2::bigint
        ),
        case when status in ('waiting', 'error') then 9223372036854775807 end
    ) as id
    from chats where chats.id = $1
)
select
    exists (select from messages where chat_id = $1 and id = $2 and deleted_at is null) as is_there,
    (
        select max(id) from messages where chat_id = (select $1::uuid) and deleted_at is null and id < (
            select max(id) from messages
            where chat_id = (select $1::uuid) and deleted_at is null and role = 'user' and id <= $2
        )
    ) as before,
    (
        select max(messages.id) from messages
        where chat_id = (select $1::uuid) and deleted_at is null and messages.id < behind.id
    ) as ends
from behind

-- fragment: copied
-- Of a history, what is copied. Nothing but a part of that kind has these words without a backslash in them.
role <> 'system' and content::text <> '[]'
    and not (role = 'tool' and content::text like '%"type":"summary"%')
    and not (role = 'assistant' and content::text like '%"name":"chat_summarized"%')

-- name: look_at_source
-- What is to be copied: how much that is, counted until it is above $4. Each message is found by the index alone, and
-- looked into once.
with recursive history as (
    select 0::bigint as id, 0::bigint as total
    union all
    select next.id, history.total + next.bytes
    from history cross join lateral (
        select id, case when {copied} then {bytes} else 0 end as bytes from messages
        where chat_id = (select $1::uuid) and id > history.id and id <= $3::bigint and deleted_at is null
        order by id
        limit 1
    ) as next
    where history.total <= $4::bigint
)
select content_version, reset_version, (select max(total) from history) as bytes
from chats where id = $1 and owner_id = $2

-- name: copy_history
-- Unless it was rewritten meanwhile. The copies are given their IDs in the order of what they are copied from, so that
-- each file goes along with its message.
with ids as materialized (
    select pg_get_serial_sequence('messages', 'id')::regclass as sequence
),
source as materialized (
    select messages.id from messages join chats on chats.id = messages.chat_id
    where chats.id = $1 and chats.reset_version = $2 and messages.id <= $3::bigint and deleted_at is null and {copied}
    order by messages.id
),
copies as materialized (
    select source.id, nextval(sequence) as new_id from source, ids
),
inserted as (
    insert into messages (id, chat_id, revision, role, content, finish_reason, model, usage)
    overriding system value
    select copies.new_id, $4, $5, role, content, finish_reason, messages.model, usage
    from copies join messages on messages.id = copies.id
),
referred as (
    insert into chat_files (chat_id, file_id, message_id)
    select $4, chat_files.file_id, copies.new_id
    from chat_files join copies on copies.id = chat_files.message_id
    where chat_files.chat_id = $1
    order by copies.new_id
)
select exists (select from chats where id = $1 and reset_version = $2)
