-- The queries of store.py. See queries.py for the form of this file.

-- fragment: message
json_build_object('id', id, 'role', role, 'parts', content, 'revision', revision, 'created_at', created_at,
    'finish_reason', finish_reason, 'model', model, 'usage', usage, 'position', position)

-- fragment: queue
(
    select coalesce(json_agg(json_build_object('id', id, 'parts', content, 'created_at', created_at, 'model', model)
        order by position), '[]')
    from queued_messages where chat_id = $1
)

-- name: lock_chat
select {chat} from chats where id = $1 for update

-- name: lock_chat_of_owner
select {chat} from chats where id = $1 and owner_id = $2 for update

-- name: select_chat
select {chat} from chats where id = $1

-- name: select_state
-- After the lock, in a statement of its own: the one that waited for the lock sees the other tables as they were before.
select
    {queue} as queue,
    (
        select coalesce(json_agg(json_build_object('call_id', call_id, 'name', name, 'state', state) order by id), '[]')
        from tool_calls where chat_id = $1 and state <> 'done'
    ) as open_calls

-- name: insert_chat
insert into chats (id, owner_id, title, model, status, snapshot_version, history_version, claimable_since)
values ($1, $2, $3, $4, $5, $6, $7, statement_timestamp())
returning {chat}

-- fragment: change
-- retry_at and action_deadline start with the transition that gives a delay, and stay while the state stays.
update chats set
    status = $2,
    archived = $3,
    archiving = $4,
    compacting = $5,
    worker_id = $6,
    snapshot_version = $7,
    history_version = $8,
    queue_version = $9,
    reset_version = $10,
    attempt = $11,
    retry = $12::text::json,
    retry_at = case
        when $12::text is null then null
        when $13::bigint is null then retry_at
        else statement_timestamp() + $13 * interval '1 millisecond'
    end,
    last_error = $14::text::json,
    action_deadline = case
        when $2 <> 'requires_action' then null
        when $15::float8 is null then action_deadline
        else statement_timestamp() + $15 * interval '1 second'
    end,
    queue_length = $16,
    open_calls = $17,
    title = coalesce($18, title),
    claimable_since = case when $19::boolean then coalesce(claimable_since, statement_timestamp()) end,
    updated_at = statement_timestamp()

-- name: update_chat
{change}
where id = $1
returning {chat}

-- name: update_known
-- A whole transition on a chat that still is as it was when the decision was made: the row changes with its snapshot
-- version only. The messages get their IDs, and so their place in history, after the update has locked the row.
with changed as (
    {change}
    where id = $1 and snapshot_version = $26 and queue_length = 0 and open_calls = 0
    returning {chat}
),
inserted as (
    insert into messages (chat_id, revision, origin_epoch, origin_history_version, origin_event, origin_ordinal,
        role, content, finish_reason, model, usage, position)
    select changed.id, changed.snapshot_version, $27::bigint, $28::bigint, $29::text,
        case when $27 is not null then ordinal end,
        new.role, content::json, finish_reason, new.model, usage::json, position
    from changed, unnest($20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[])
        with ordinality as new (role, content, finish_reason, model, usage, position, ordinal)
    order by ordinal
    returning *
)
select changed.*, (select json_agg({message} order by id) from inserted) as messages from changed

-- name: insert_messages
-- Order in history is the order of ids, so they are given in the order of the list.
with inserted as (
    insert into messages (chat_id, revision, origin_epoch, origin_history_version, origin_event, origin_ordinal,
        role, content, finish_reason, model, usage, position)
    select $1, $2, $3, $4, $5, case when $3::bigint is not null then ordinal end,
        role, content::json, finish_reason, model, usage::json, position
    from unnest($6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
        with ordinality as new (role, content, finish_reason, model, usage, position, ordinal)
    order by ordinal
    returning *
)
select json_agg({message} order by id) from inserted

-- name: delete_messages_from
update messages set deleted_at = statement_timestamp(), revision = $3
where chat_id = $1 and id >= $2 and deleted_at is null

-- name: select_replaced
select role, model from messages where chat_id = $1 and id = $2 and deleted_at is null

-- name: select_origin
select json_agg({message} order by id)
from messages where chat_id = $1 and origin_epoch = $2 and origin_history_version = $3 and origin_event = $4

-- name: enqueue
insert into queued_messages (chat_id, position, content, model)
select $1, coalesce(max(position), 0) + 1, $2::text::json, $3::text from queued_messages where chat_id = $1
returning id, created_at

-- name: dequeue
delete from queued_messages where chat_id = $1 and id = any($2::bigint[])

-- name: move_to_head
update queued_messages set position = (select min(position) from queued_messages where chat_id = $1) - 1
where chat_id = $1 and id = $2

-- name: open_calls
insert into tool_calls (chat_id, message_id, call_id, name, state)
select $1, message_id, call_id, name, state
from unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) with ordinality
    as new (message_id, call_id, name, state, ordinal)
order by ordinal

-- name: change_call
update tool_calls set state = $3 where chat_id = $1 and call_id = $2 and state <> 'done'

-- name: close_calls
update tool_calls set state = 'done', finished_at = statement_timestamp()
where chat_id = $1 and call_id = any($2::text[]) and state <> 'done'

-- name: claim
-- Locks nothing but what it takes, and nothing at all when there is nothing to take. The lock on the replica's row
-- makes a burial of this worker wait, or makes this claim find no row; renewals do not conflict with it.
with interrupting as (
    select id, claimable_since from chats
    where status = 'interrupting' and claimable_since is not null
    order by claimable_since
    limit $3
    for update skip locked
),
running as (
    select id, claimable_since from chats
    where status = 'running' and claimable_since is not null
    order by claimable_since
    limit greatest(0, least($2, $3 - (select count(*) from interrupting)))
    for update skip locked
),
taken as (
    select * from interrupting union all select * from running
),
claimer as (
    select worker_id from replicas where worker_id = $1 and exists (select from taken) for key share
),
claimed as (
    update chats set
        worker_id = claimer.worker_id,
        epoch = epoch + 1,
        snapshot_version = snapshot_version + 1,
        attempt = attempt + case when status = 'running' and retry is null then 1 else 0 end,
        claimable_since = null,
        updated_at = statement_timestamp()
    from taken, claimer
    where chats.id = taken.id
    returning {chat},
        coalesce(greatest(0, extract(epoch from retry_at - statement_timestamp())), 0)::float8 as retry_seconds,
        taken.claimable_since as waited_since
)
select
    claimed.*,
    (select json_agg({message} order by id) from messages where chat_id = claimed.id and deleted_at is null) as messages
from claimed
order by waited_since

-- name: select_claimed
select
    {chat},
    (select json_agg({message} order by id) from messages where chat_id = chats.id and deleted_at is null) as messages
from chats
where worker_id = $1 and id = any($2::uuid[])

-- name: read_chat
select {chat},
    (
        select coalesce(json_agg({message} order by id), '[]')
        from messages where chat_id = $1 and revision > $2 and deleted_at is null
    ) as messages,
    case when queue_length > 0 then {queue} else '[]' end as queue
from chats where id = $1

-- name: read_messages
select coalesce(json_agg({message} order by id), '[]')
from (
    select * from messages
    where chat_id = $1 and revision > $2 and id > $3 and revision <= $4 and deleted_at is null
    order by id
    limit $5
) as page

-- name: list_messages
select
    (
        select coalesce(json_agg({message} order by id), '[]')
        from (
            select * from messages where chat_id = $1 and id > $3 and deleted_at is null order by id limit $4
        ) as page
    ) as messages,
    {queue} as queue
from chats where id = $1 and owner_id = $2

-- name: select_versions
select id, snapshot_version from chats where id = any($1::uuid[])

-- name: list_chats
select {chat} from chats
where owner_id = $1
    and ($2::boolean is null or archived = $2)
    and (created_at, id)
        < (coalesce($3::timestamptz, 'infinity'), coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by created_at desc, id desc
limit $5

-- name: clock
select statement_timestamp()

-- name: list_changed
-- Looks at all chats of these owners: an index on updated_at would have to follow every change of every chat, and this
-- is asked once in a while, for those users alone who watch their lists.
select {chat} from chats
where owner_id = any($1::uuid[])
    and updated_at > least(statement_timestamp(), $3::timestamptz) - $2::float8 * interval '1 second'
    and ($4::timestamptz is null or (updated_at, id) > ($4, $5::uuid))
order by updated_at, id
limit $6

-- name: select_creation
select created_at from chats where id = $1 and owner_id = $2

-- name: reserve_key
-- Waits for a request with the same key that is under way. Returns a row if the key is new, or older than a day.
-- Each use of the table also removes a few keys that are too old: no other clean-up is needed.
with removed as (
    delete from idempotency_keys where (owner_id, key) in (
        select owner_id, key from idempotency_keys
        where created_at < statement_timestamp() - interval '24 hours' and (owner_id, key) <> ($1, $2)
        order by created_at
        limit 10
        for update skip locked
    )
)
insert into idempotency_keys (owner_id, key, request_digest) values ($1, $2, $3)
on conflict (owner_id, key) do update
    set request_digest = excluded.request_digest, created_at = excluded.created_at, response = null
    where idempotency_keys.created_at < statement_timestamp() - interval '24 hours'
returning true

-- name: select_key
select request_digest, response from idempotency_keys where owner_id = $1 and key = $2

-- name: answer_key
update idempotency_keys set response = $3::text::json where owner_id = $1 and key = $2
