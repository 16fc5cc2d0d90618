-- The queries of titles.py. See queries.py for the form of this file.

-- name: take
with taken as (
    update titles_wanted set due = statement_timestamp() + $2::float8 * interval '1 second', tries = tries + 1
    where chat_id in (
        select chat_id from titles_wanted where due <= statement_timestamp()
        order by due
        limit $1
        for update skip locked
    )
    returning chat_id, tries
),
lost as (
    insert into usage_events (chat_id, owner_id, history_version, attempt, epoch, outcome)
    select chats.id, chats.owner_id, 0, tries - 1, chats.epoch, 'lost'
    from taken join chats on chats.id = taken.chat_id
    where tries > 1
    on conflict do nothing
)
select chats.id, chats.owner_id, chats.model, tries, first.model as message_model, first.content
from taken join chats on chats.id = taken.chat_id
left join lateral (
    select model, content::text as content from messages
    where chat_id = chats.id and role = 'user' and deleted_at is null
    order by id
    limit 1
) as first on true

-- fragment: booked
booked as (
    insert into usage_events (chat_id, owner_id, {spent_columns})
    select chats.id, chats.owner_id, {new_spent_columns}
    from chats, json_to_recordset($2::text::json) as new ({spent_values})
    where chats.id = $1
    on conflict do nothing
)

-- name: book
with {booked}
select true

-- name: entitle
-- The chat's row is locked first, as everywhere.
with {wal},
{booked},
locked as (
    select id from chats where id = $1 for update
),
wanted as (
    delete from titles_wanted where chat_id = (select id from locked) returning chat_id
)
update chats set
    title = coalesce($3::text, title),
    {next_version},
    updated_at = statement_timestamp()
from wanted, wal
where chats.id = wanted.chat_id
returning {chat}
