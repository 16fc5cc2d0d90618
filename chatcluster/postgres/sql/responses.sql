-- The queries of responses.py. See queries.py for the form of this file.

-- name: add
insert into responses (chat_id, message_id, revision, parameters, transient)
select id, $2, $3, $4, $5 from chats where id = $1
on conflict (chat_id, message_id) do nothing

-- name: get
select responses.revision, responses.parameters::text as parameters, responses.transient
from responses join chats on chats.id = responses.chat_id
where responses.chat_id = $1 and responses.message_id = $2 and chats.owner_id = $3

-- name: remove
delete from responses using chats
where responses.chat_id = $1 and responses.message_id = $2 and chats.id = responses.chat_id and chats.owner_id = $3
returning responses.message_id

-- name: asked_after
select min(id) from messages where chat_id = $1 and id > $2 and role = 'user' and deleted_at is null

-- name: asked
select id, revision from messages where chat_id = $1 and id >= $3 and role = 'user' and deleted_at is null
order by id limit 1 offset $2

-- name: newest_asked
select id, revision from messages where chat_id = $1 and id >= $3 and role = 'user' and deleted_at is null
order by id desc limit 1 offset $2
