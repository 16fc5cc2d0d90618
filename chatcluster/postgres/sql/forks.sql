-- The queries of forks.py. See queries.py for the form of this file.

-- name: turn_ends
-- A turn ends before a user's message; the last one where the chat rests.
with behind as (
    select coalesce(
        (
            select min(id) from messages
            where chat_id = $1 and deleted_at is null and role = 'user' and id > $2::bigint
        ),
        case when status in ('waiting', 'error') then 9223372036854775807 end
    ) as id
    from chats where chats.id = $1
)
select
    exists (select from messages where chat_id = $1 and id = $2 and deleted_at is null) as is_there,
    (
        select max(id) from messages where chat_id = $1 and deleted_at is null and id < (
            select max(id) from messages where chat_id = $1 and deleted_at is null and role = 'user' and id <= $2
        )
    ) as before,
    (
        select max(messages.id) from messages
        where chat_id = $1 and deleted_at is null and messages.id < behind.id
    ) as ends
from behind

-- fragment: copied
-- Those of a history that are copied. Nothing but a part of that kind has these words without a backslash in them.
deleted_at is null and role <> 'system' and content::text <> '[]'
    and not (role = 'tool' and content::text like '%"type":"summary"%')
    and not (role = 'assistant' and content::text like '%"name":"chat_summarized"%')

-- name: look_at_source
-- What is to be copied: how much that is, counted until it is above $4.
with recursive history as (
    select 0::bigint as id, 0::bigint as total
    union all
    select next.id, history.total + next.bytes
    from history cross join lateral (
        select id, {bytes} as bytes from messages
        where chat_id = $1 and id > history.id and id <= $3::bigint and {copied}
        order by id
        limit 1
    ) as next
    where history.total <= $4::bigint
)
select content_version, reset_version, (select max(total) from history) as bytes
from chats where id = $1 and owner_id = $2

-- name: copy_history
-- Unless it was rewritten meanwhile. The copies have the order of what they are copied from; with that they take their
-- files along.
with source as (
    select messages.id, row_number() over (order by messages.id) as number
    from messages join chats on chats.id = messages.chat_id
    where chats.id = $1 and chats.reset_version = $2 and messages.id <= $3::bigint and {copied}
),
inserted as (
    insert into messages (chat_id, revision, role, content, finish_reason, model, usage)
    select $4, $5, role, content, finish_reason, model, usage
    from messages join source on source.id = messages.id
    order by source.number
    returning id
),
numbered as (
    select id, row_number() over (order by id) as number from inserted
),
referred as (
    insert into chat_files (chat_id, file_id, message_id)
    select $4, chat_files.file_id, numbered.id
    from chat_files
    join source on source.id = chat_files.message_id
    join numbered on numbered.number = source.number
    where chat_files.chat_id = $1
    order by numbered.id
)
select exists (select from chats where id = $1 and reset_version = $2)
