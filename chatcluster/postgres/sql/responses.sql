-- The queries of responses.py. See queries.py for the form of this file.

-- name: add
insert into responses (chat_id, message_id, revision, parameters, transient)
select id, $2, $3, $4, $5 from chats where id = $1
on conflict (chat_id, message_id) do nothing

-- name: replace
insert into responses (chat_id, message_id, revision, parameters, transient)
select id, $2, $3, $4, $5 from chats where id = $1
on conflict (chat_id, message_id) do update
    set revision = excluded.revision, parameters = excluded.parameters, transient = excluded.transient

-- name: get
select responses.revision, responses.parameters::text as parameters, responses.transient
from responses join chats on chats.id = responses.chat_id
where responses.chat_id = $1 and responses.message_id = $2 and chats.owner_id = $3 and responses.revision >= 0

-- name: remove
-- Of a transient one a mark stays: its chat is deleted all the same, which was made for nothing else.
with found as (
    select responses.chat_id, responses.message_id, responses.transient
    from responses join chats on chats.id = responses.chat_id
    where responses.chat_id = $1 and responses.message_id = $2 and chats.owner_id = $3 and responses.revision >= 0
),
removed as (
    delete from responses using found
    where responses.chat_id = found.chat_id and responses.message_id = found.message_id and not found.transient
    returning responses.message_id
),
forgotten as (
    update responses set revision = -revision, parameters = '{}'
    from found
    where responses.chat_id = found.chat_id and responses.message_id = found.message_id and found.transient
        and revision > 0
    returning responses.message_id
)
select message_id from removed union all select message_id from forgotten

-- name: asked_after
select min(id) from messages where chat_id = (select $1::uuid) and id > $2 and role = 'user' and deleted_at is null

-- name: asked
select id, revision from messages
where chat_id = (select $1::uuid) and id >= $3 and role = 'user' and deleted_at is null
order by id limit 1 offset $2

-- name: newest_asked
select id, revision from messages
where chat_id = (select $1::uuid) and id >= $3 and role = 'user' and deleted_at is null
order by id desc limit 1 offset $2
