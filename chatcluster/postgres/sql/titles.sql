-- The queries of titles.py. See queries.py for the form of this file.

-- name: take
-- By turns between users: however many chats one has to be named, and however slow their model is, another's is among
-- the next. What is under way counts as well.
with busy as (
    select chats.owner_id, count(*) as tries from titles_wanted join chats on chats.id = chat_id
    where under_way and due > statement_timestamp()
    group by chats.owner_id
),
turns as (
    select chat_id,
        row_number() over (partition by chats.owner_id order by due, chat_id) + coalesce(busy.tries, 0) as turn
    from titles_wanted join chats on chats.id = chat_id left join busy on busy.owner_id = chats.owner_id
    where due <= statement_timestamp()
),
waiting as (
    select titles_wanted.chat_id, under_way, turns.turn, due from titles_wanted join turns on turns.chat_id = titles_wanted.chat_id
    where due <= statement_timestamp()
    order by turns.turn, due
    limit $1
    for update of titles_wanted skip locked
),
taken as (
    update titles_wanted set
        due = statement_timestamp() + $2::float8 * interval '1 second', tries = least(tries, 1000) + 1, under_way = true
    from waiting
    where titles_wanted.chat_id = waiting.chat_id
    returning titles_wanted.chat_id, tries, waiting.under_way as was_under_way, waiting.turn, waiting.due as was_due
),
lost as (
    insert into usage_events (chat_id, owner_id, root_id, history_version, attempt, epoch, outcome)
    select chats.id, chats.owner_id, chats.root_id, 0, tries - 1, chats.epoch, 'lost'
    from taken join chats on chats.id = taken.chat_id
    where was_under_way and tries > 1
    on conflict do nothing
)
select chats.id, chats.owner_id, chats.model, tries, first.model as message_model, first.content
from taken join chats on chats.id = taken.chat_id
left join lateral (
    select model, case
        when octet_length(content::text) < {large_bytes} then content::text
        else json_build_array(json_build_object('type', 'text', 'text', left(content -> 0 ->> 'text', 10000)))::text
    end as content
    from messages
    where chat_id = chats.id and role = 'user' and deleted_at is null
    order by id
    limit 1
) as first on true
order by turn, was_due

-- fragment: booked
booked as (
    insert into usage_events (chat_id, owner_id, root_id, {spent_columns})
    select chats.id, chats.owner_id, chats.root_id, {new_spent_columns}
    from chats, json_to_recordset($2::text::json) as new ({spent_values})
    where chats.id = $1
    on conflict do nothing
)

-- name: book
-- The try is over, so nobody takes it for a lost one.
with {booked}
update titles_wanted set under_way = false where chat_id = $1

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
