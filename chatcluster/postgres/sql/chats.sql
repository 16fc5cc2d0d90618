-- The queries of store.py. See queries.py for the form of this file.
-- Many IDs come as texts: for other arrays the driver asks each new connection about their types, which takes it long.

-- fragment: message
{message_with content}

-- fragment: message_with
-- With something else for its content.
json_build_object('id', id, 'role', role, 'parts', {it}, 'revision', revision,
    'created_at', {moment created_at},
    'finish_reason', finish_reason, 'model', model, 'usage', usage, 'position', position)

-- fragment: turn
json_build_object('message_id', message_id, 'outcome', outcome, 'duration_ms', duration_ms, 'revision', revision,
    'code', code, 'usage', usage)

-- fragment: queue
-- Each with its content apart, so that one whose content cannot be read has its place all the same.
(
    select coalesce(array_agg(array[
        json_build_object('id', id, 'model', model, 'steered', steered,
            'created_at', {moment created_at})::text,
        content::text
    ] order by position), '{}')
    from queued_messages where chat_id = $1
)

-- fragment: shown
-- Of a chat's messages: those that readers get. What the model alone is told of is none.
deleted_at is null and role <> 'system'

-- fragment: page
-- Messages of the chat $1 with revision > $2, id > $3 and revision <= $4: at most $5 of them, and $6 bytes. One is found
-- after the other, so that no more of them is read and unpacked than the page holds, and one that does not fit, of which
-- the revision is told. A first one that is larger than a page comes alone, and a large one without its
-- content: ``large_id`` names it, and ``read_content`` has that. IDs and revisions of a history ascend
-- together, so its index by revision tells where to begin: not at the beginning only where something is known. No plan
-- sorts a history, or goes through the messages of other chats, whatever is known of the table and of this chat: which
-- one it is, is asked for (as in all statements that take messages in their order), and nothing but a place in that
-- order decides what comes next.
found as (
    select * from (
        select messages.id, revision, 1 as number, octet_length(content::text)::bigint as bytes
        from messages
        where chat_id = (select $1::uuid) and {shown}
            and id > greatest($3::bigint, coalesce(case when $2::bigint > 0 then (
                select min(id) - 1 from (
                    select id from messages
                    where chat_id = $1 and deleted_at is null and revision = (
                        select revision from messages where chat_id = $1 and revision > $2 and deleted_at is null
                        order by revision limit 1
                    )
                    offset 0
                ) as newer
            ) else 0 end, 9223372036854775807))
        order by messages.id limit 1
    ) as first
    where revision <= $4
    union all
    select next.id, next.revision, number + 1, bytes + next.size
    from found cross join lateral (
        select id, revision, octet_length(content::text) as size from messages
        where chat_id = (select $1::uuid) and id > found.id and {shown}
        order by id limit 1
    ) as next
    where number <= $5 and (bytes <= $6 or number = 1) and next.revision <= $4
),
page as (
    select (
        select json_agg({message_unless_large} order by id) from messages where id = any (found.ids)
    ) as messages, next_revision, large_id
    from (
        select array_agg(id) filter (where number = 1 or number <= $5 and bytes <= $6) as ids,
            max(revision) filter (where number > 1 and (number > $5 or bytes > $6)) as next_revision,
            {large_id}
        from found
    ) as found
)

-- fragment: large_id
max(id) filter (where number = 1 and bytes >= {large_bytes}) as large_id

-- fragment: message_unless_large
{message_with case when id = found.large_id then '[]' else content end}

-- fragment: turns
-- Those with $7 < revision <= $4, of which the newest $8 are told.
(
    select json_agg({turn} order by revision)
    from (select * from turns where chat_id = $1 and revision > $7 and revision <= $4 order by revision desc limit $8)
        as newest
)

-- name: end_turn
-- Before anything else is written: the newest message that there is then is the one that the turn answers.
with {booked}
insert into turns (chat_id, revision, message_id, outcome, code, duration_ms, usage)
select ending.id, $3, asked.id, $4, $5, duration_ms, {bill_of_turn} from (select $1::uuid as id offset 0) as ending, {asked}
returning {turn}

-- name: book
with {booked}
select count(*) from booked

-- fragment: booked
-- What was spent on the chat $1. An attempt that is booked already stays as it is.
booked as (
    insert into usage_events (chat_id, owner_id, root_id, {spent_columns})
    select chats.id, chats.owner_id, chats.root_id, {new_spent_columns}
    from chats, json_to_recordset($2::text::json) as new ({spent_values})
    where chats.id = $1
    on conflict do nothing
    returning *
)

-- name: lock_chat
select {chat}, wal_timeline() as wal_timeline from chats where id = $1 for update

-- name: lock_chat_of_owner
select {chat}, wal_timeline() as wal_timeline from chats where id = $1 and owner_id = $2 for update

-- name: select_chat
select {chat} from chats where id = $1

-- name: find_chat
select {chat} from chats where id = any ($1::uuid[]) and owner_id = $2
order by array_position($1::uuid[], id) limit 1

-- name: select_chat_of_owner
select {chat} from chats where id = $1 and owner_id = $2

-- name: select_frame
select {framed} from chats where id = $1

-- fragment: belongings
-- What belongs to the chat $1 and is kept elsewhere. Previous versions began a chat with one system message, or none.
(select {bill} from usage_events where chat_id = $1) as bill,
(select text from chat_prompts where chat_id = $1) as own_prompt,
case when root_id is null then (
    select content::text from messages
    where chat_id = $1 and revision = 1 and role = 'system' and deleted_at is null
    limit 1
) end as first_prompt,
(
    select json_build_object('id', workspaces.id, 'name', name, 'state', state)::text from workspaces
    where workspaces.chat_id = coalesce(chats.root_id, chats.id) and state <> 'deleted' and not replaced
) as workspace

-- name: select_plain_details
-- Of a chat that has neither agents nor calls that wait, as most. Where those are asked for, a third of the work is to
-- get ready for looking after them, whether there are any or not.
select {chat}, null as actions, null as family_bill, {belongings} from chats where id = $1 and not {may_wait}

-- name: select_details
select {chat}, {actions},
    case when has_agents and root_id is null then (
        select {bill} from usage_events
        where chat_id in (select $1 union all select agent.id from chats as agent where agent.root_id = $1)
    ) end as family_bill,
    {belongings}
from chats where id = $1

-- name: select_state
-- After the lock, in a statement of its own: the one that waited for the lock sees the other tables as they were before.
select
    {queue} as queue,
    {calls} as open_calls

-- name: insert_chat
with inserted as (
    insert into chats ({made_columns}, content_bytes, claimable_since)
    values ({made_values}, :content_bytes, case when :claimable::boolean then statement_timestamp() end)
    returning *
),
wish as (
    insert into titles_wanted (chat_id) select id from inserted where :wants_title::boolean
)
select {chat} from inserted as chats

-- name: create_claimed
-- A chat with its first messages and its claim by the worker :worker_id, which has a place for it: nothing is written
-- where it may not have it, and nothing by a repeat. As in claim_seen, a burial waits.
with claimer as (
    select worker_id from replicas where worker_id = :worker_id and {nobody_waits} for key share skip locked
),
made as (
    insert into chats ({made_columns}, content_bytes)
    select {made_values}, :content_bytes
    from claimer
    on conflict (id) do nothing
    returning *
),
changed as (
    select {chat}, {told} from made as chats
),
wish as (
    insert into titles_wanted (chat_id) select id from changed where :wants_title::boolean
),
{change_told}

-- name: forget_title
delete from titles_wanted where chat_id = $1

-- name: insert_own_prompt
insert into chat_prompts (chat_id, text) values ($1, $2)

-- fragment: change
-- retry_at starts with the transition that gives a delay, and stays while the state stays. The deadline of an action is
-- the first of its calls', which were written before.
update chats set
    {stored_changes},
    retry_at = case
        when :retry::text is null then null
        when :retry_delay_ms::bigint is null then retry_at
        else statement_timestamp() + :retry_delay_ms * interval '1 millisecond'
    end,
    action_deadline = case
        when :status <> 'requires_action' then null
        else coalesce(
            (select min(deadline) from tool_calls where chat_id = :id and {waits_for_somebody}), statement_timestamp()
        )
    end,
    queue_length = :queue_length,
    open_calls = :open_calls,
    {set_up},
    claimable_since = case when :claimable::boolean then coalesce(claimable_since, statement_timestamp()) end,
    content_bytes = coalesce(:kept_bytes::bigint, content_bytes) + :change_bytes::bigint,
    updated_at = statement_timestamp()

-- fragment: owned
-- Every write of an owner names its tenure and what it worked from: worker, epoch, history version and status. A server
-- that took the place of another may have lost some of what that one said was committed.
worker_id = :owner_worker_id and epoch = :owner_epoch and history_version = :owner_history_version
    and status = :status_before

-- name: update_chat
{change}
where id = :id
returning {chat}

-- name: update_owned
{change}
where id = :id and {owned}
returning {chat}

-- name: update_known
-- A whole transition on a chat that still is as it was when the decision was made: the row changes with its snapshot
-- version only, on one server; after a failover the chat has to leap first. The messages get their IDs, and so their place in history, after the update has locked the row.
with changed as (
    {change}
    where id = :id and {owned} and snapshot_version = :version_before and queue_length = 0 and open_calls = 0
        and (timeline = wal_timeline()) is not false
    returning {chat}
),
inserted as (
    insert into messages (chat_id, revision, origin_epoch, origin_history_version, origin_event, origin_ordinal,
        role, content, finish_reason, model, usage, position)
    select changed.id, changed.snapshot_version,
        :owner_epoch::bigint, :owner_history_version::bigint, :event::text, ordinal,
        new.role, content::json, finish_reason, new.model, usage::json, position
    from changed, unnest(:roles::text[], :contents::text[], :finish_reasons::text[], :models::text[], :usages::text[],
        :positions::text[]) with ordinality as new (role, content, finish_reason, model, usage, position, ordinal)
    order by ordinal
    returning *
),
booked as (
    insert into usage_events (chat_id, owner_id, root_id, {spent_columns})
    select changed.id, changed.owner_id, changed.root_id, {new_spent_columns}
    from changed, json_to_recordset(:spent::text::json) as new ({spent_values})
    on conflict do nothing
    returning *
),
ended as (
    insert into turns (chat_id, revision, message_id, outcome, code, duration_ms, usage)
    select ending.id, ending.snapshot_version, asked.id, :ended, :last_error::text::json ->> 'code', duration_ms,
        {bill_of_turn}
    from changed as ending, {asked}
    where :ended::text is not null
    returning {turn} as turn
)
select changed.*, (select json_agg({message} order by id) from inserted) as messages, (select turn from ended) as ended
from changed

-- fragment: change_told
-- What follows ``changed``, the row of the chat: the messages that come with it, and all that there is to tell.
inserted as (
    insert into messages (chat_id, revision, role, content, finish_reason, model, usage, position)
    select changed.id, changed.snapshot_version, new.role, content::json, finish_reason, new.model, usage::json, position
    from changed, unnest(:roles::text[], :contents::text[], :finish_reasons::text[], :models::text[], :usages::text[],
        :positions::text[]) with ordinality as new (role, content, finish_reason, model, usage, position, ordinal)
    order by ordinal
    returning *
)
select changed.*, (select json_agg({message} order by id) from inserted) as messages
from changed

-- name: update_seen
-- A user's whole transition on a chat that still is as it was seen without its lock, on the same timeline. Where the
-- server does not tell that, the moment of the last change tells whether it is the same chat.
with changed as (
    {change}
    where id = :id and snapshot_version = :version_before and updated_at = :updated_before
        and queue_length = 0 and open_calls = 0
        and (timeline = wal_timeline()) is not false
    returning {chat}
),
{change_told}

-- name: claim_seen
-- The same, with the claim of the chat by the worker :worker_id, which has a place for it; nothing is written where it
-- may not have it. The locks are taken in a claim's order, and none is waited for: the chat's, and that of the worker's
-- row, which makes a burial wait.
with taken as (
    select id from chats
    where id = :id and snapshot_version = :version_before and updated_at = :updated_before
        and queue_length = 0 and open_calls = 0
        and (timeline = wal_timeline()) is not false
    for update skip locked
),
claimer as (
    select worker_id from replicas
    where worker_id = :worker_id and exists (select from taken) and {nobody_waits}
    for key share skip locked
),
changed as (
    {change}
    where id = (select id from taken) and exists (select from claimer)
    returning {chat}, {told}
),
{change_told}

-- name: read_if_few
-- The whole history of the chat $1, at its version $2, where that is a few short messages: no byte of them is unpacked
-- to find out.
with few as materialized (
    select count(*) <= 9 and coalesce(sum(size), 0) <= 8192 as are_told
    from (
        select pg_column_size(content) as size from messages
        where chat_id = $1 and deleted_at is null
        order by revision
        limit 10
    ) as sizes
)
select json_agg({message} order by id) from messages
where chat_id = $1 and deleted_at is null and (select are_told from few)
    and (select history_version from chats where chats.id = $1) = $2

-- name: may_claim
-- Whether the worker $1 may claim the chat $2 of the user $3 with what is being written: its row, locked, which makes a
-- burial wait. And what the chat's model is told.
select {told}
from replicas, (select $2::uuid as id, $3::uuid as owner_id) as chats
where replicas.worker_id = $1 and {nobody_waits}
for key share of replicas skip locked

-- fragment: inserted_messages
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

-- name: insert_messages
{inserted_messages}
select json_agg({message} order by id) from inserted

-- name: insert_answered_messages
-- With the key of the request, and its answer: the chat as it is, and these messages. A key that has an answer already
-- says so by the last column, and then all of this is to be undone.
{inserted_messages},
told as (
    select json_agg({message} order by id) as messages from inserted
),
asked as (
    select $12::uuid as owner_id, $13::text as key
),
removed as (
    {remove_old_keys}
),
answered as (
    insert into idempotency_keys (owner_id, key, request_digest, response)
    select owner_id, key, $14, json_build_object('chat', $15::text::json, 'messages', coalesce(messages, '[]'))
    from asked, told
    on conflict (owner_id, key) do update
        set request_digest = excluded.request_digest, created_at = excluded.created_at, response = excluded.response
        {is_old_key}
    returning true
)
select messages, exists (select from answered) as is_new from told

-- name: delete_messages
with unreferenced as (
    delete from chat_files where chat_id = $1 and message_id between $2 and $3
)
update messages set deleted_at = statement_timestamp(), revision = $4
where chat_id = $1 and id between $2 and $3 and deleted_at is null

-- name: select_replaced
select role, model, revision from messages where chat_id = $1 and id = $2 and deleted_at is null

-- name: select_origin
select json_agg({message} order by id)
from messages where chat_id = $1 and origin_epoch = $2 and origin_history_version = $3 and origin_event = $4

-- name: enqueue
insert into queued_messages (chat_id, position, content, model, steered)
select $1, coalesce(max(position), 0) + 1, $2::text::json, $3::text, $4::boolean from queued_messages where chat_id = $1
returning id, created_at

-- name: requeue
update queued_messages set content = $3::text::json, model = $4 where chat_id = $1 and id = $2
returning steered, greatest('0001-01-02', least(created_at, '9999-12-30')) as created_at

-- name: log_handover
insert into takeovers (chat_id, owner_id, cause, from_worker, from_name)
select id, owner_id, 'drain', $2, coalesce((select name from replicas where replicas.worker_id = $2), '')
from chats where id = $1

-- name: dequeue
delete from queued_messages where chat_id = $1 and id = any($2::bigint[])

-- name: unsteer
update queued_messages set steered = false where chat_id = $1 and steered

-- name: move_to_head
update queued_messages set position = (select min(position) from queued_messages where chat_id = $1) - 1
where chat_id = $1 and id = $2

-- name: raise_epoch
-- For the owner alone, and upwards alone. It leaps, on whatever timeline.
with {wal}
update chats set
    epoch = $4,
    timeline = coalesce(wal.timeline, chats.timeline),
    snapshot_version = {leapt},
    reset_version = {leapt},
    queue_version = {leapt},
    updated_at = statement_timestamp()
from wal
where id = $1 and worker_id = $2 and epoch = $3 and epoch < $4
returning {chat}

-- fragment: read_begin
-- The pages of the chats: message by message until one has its bytes, so that nothing is looked at in vain. The first
-- row of a page stands for the chat. What is asked is a table of its own, so that the plan does not depend on it: then it
-- is made once, and not each time.
select chat.id as chat_id, page.id, page.bytes, page.message, page.is_large,
    (select history_version from chats where chats.id = chat.id) as history_version
from unnest((select ids from asked)) as chat (id) cross join lateral

-- fragment: nothing_yet
0::bigint as page_bytes, 0::bigint as bytes, null::json as message, false as is_large

-- fragment: from_there
-- Message by message, from the row that the page has already. The argument says which is next, and in which order.
union all
select next.id, page.page_bytes + next.bytes, next.bytes, next.message, next.is_large
from page cross join lateral (
    select {message_read}
    from (
        select {message_measured}
        from messages
        where chat_id = chat.id and deleted_at is null and {it}
        limit 1
    ) as one
) as next
where page.page_bytes < (select asked.page_bytes from asked)

-- fragment: message_read
-- One above the bytes that a message may have, or of so many parts that decoding it took long, is left empty; what is that
-- long even as it is stored is not unpacked to find out. A large one comes without its content: ``read_content`` has that.
id, bytes, bytes >= {large_bytes} as is_large,
case
    when bytes > (select asked.message_bytes from asked) then null
    when bytes >= {large_bytes} and json_array_length(content) > {parts_max} then null
    when bytes >= {large_bytes} then {message_with '[]'::json}
    else {message}
end as message

-- fragment: message_measured
*, case
    when pg_column_size(content) + coalesce(pg_column_size(usage), 0) > (select asked.message_bytes from asked)
        then pg_column_size(content)::bigint + coalesce(pg_column_size(usage), 0)
    else {bytes}
end as bytes

-- name: read_histories
-- A page begins with the first message of revision $5, if that is further on than $4: revisions and IDs of a history
-- ascend together.
with asked as materialized (
    select $1::text[]::uuid[] as ids, $2::bigint as page_bytes, $3::bigint as message_bytes, $4::bigint as after_id,
        $5::bigint as revision
)
{read_begin} (
    with recursive page as (
        select greatest((select asked.after_id from asked), case when (select asked.revision from asked) > 0 then (
                select id - 1 from messages
                where chat_id = chat.id and revision >= (select asked.revision from asked) and deleted_at is null
                order by revision, id limit 1
            ) end) as id,
            {nothing_yet}
        {from_there id > page.id order by id}
    )
    select * from page
) as page

-- name: read_histories_before
-- Backwards, from the last message before $4 on.
with asked as materialized (
    select $1::text[]::uuid[] as ids, $2::bigint as page_bytes, $3::bigint as message_bytes, $4::bigint as before_id
)
{read_begin} (
    with recursive page as (
        select (select asked.before_id from asked) as id, {nothing_yet}
        {from_there id < page.id order by id desc}
    )
    select * from page
) as page

-- name: read_content
-- The content of the message $2 of the chat $1 in pieces, each with its place: the server need not sort so much. One row
-- without a piece if it has more than $3 bytes, or too many parts; none if it is gone. It is made ready once (``offset
-- 0``), and what is too long is not looked into.
select place, substring(whole.bytes from place for {piece_bytes}) as piece
from (
    select case
        when octet_length(content::text) > $3 then null
        when json_typeof(content) = 'array' and json_array_length(content) > {parts_max} then null
        else convert_to(content::text, 'UTF8')
    end as bytes
    from messages
    where chat_id = $1 and id = $2
    offset 0
) as whole
left join lateral generate_series(1, octet_length(whole.bytes), {piece_bytes}) as place on true

-- name: measure
-- The bytes of a history and its queue, counted until they are above $2, from its newest summary on.
with recursive history as (
    select coalesce((
        select id - 1 from messages
        where chat_id = $1 and deleted_at is null
            and revision >= (select (summaries ->> -1)::bigint from chats where chats.id = $1)
        order by revision, id limit 1
    ), 0) as id, 0::bigint as total
    union all
    select next.id, history.total + next.bytes
    from history cross join lateral (
        select id, {bytes} as bytes from messages
        where chat_id = (select $1::uuid) and id > history.id and deleted_at is null
        order by id
        limit 1
    ) as next
    where history.total <= $2
)
select (select max(total) from history)
    + (select coalesce(sum(256 + octet_length(content::text)), 0) from queued_messages where chat_id = $1)

-- name: measure_kept
-- The bytes of a history before message $2, counted until they are above $3, from the newest summary there on.
with recursive history as (
    select coalesce((
        select messages.id - 1
        from messages join (
            select max(version::bigint) as version
            from chats, json_array_elements_text(chats.summaries) as version
            where chats.id = $1 and version::bigint <= (select revision from messages where chat_id = $1 and id = $2)
        ) as newest on messages.revision >= newest.version
        where chat_id = $1 and deleted_at is null
        order by revision, messages.id limit 1
    ), 0) as id, 0::bigint as total
    union all
    select next.id, history.total + next.bytes
    from history cross join lateral (
        select id, {bytes} as bytes from messages
        where chat_id = (select $1::uuid) and id > history.id and id < $2 and deleted_at is null
        order by id
        limit 1
    ) as next
    where history.total <= $3
)
select max(total) from history

-- name: read_chat
select {chat},
    (
        select coalesce(json_agg({message} order by id), '[]')
        from messages where chat_id = $1 and revision > $2 and {shown}
    ) as messages,
    case when queue_length > 0 then {queue} else '{}' end as queue,
    {actions}
from chats where id = $1

-- name: read_chat_few
-- What is newer than version $1, where that is a few short messages: no byte of them is unpacked to find out. What is
-- asked is a table of its own, so that the plan does not depend on it: then it is made once, and not each time.
with asked as materialized (
    select $1::bigint as version, $2::uuid as chat_id
),
few as (
    select count(*) > 8 or coalesce(sum(size), 0) > 8192 as crowded
    from (
        select pg_column_size(content) as size from messages
        where chat_id = (select chat_id from asked) and revision > (select version from asked) and {shown}
        order by revision
        limit 9
    ) as sizes
)
select {chat}, few.crowded,
    case when not few.crowded then (
        select json_agg({message} order by id) from messages
        where chat_id = (select chat_id from asked) and revision > (select version from asked) and {shown}
    ) end as messages,
    (
        select json_agg({turn} order by revision)
        from (
            select * from turns
            where chat_id = (select chat_id from asked) and revision > (select version from asked)
            order by revision
            limit 9
        ) as newer
    ) as turns
from chats, few where chats.id = (select chat_id from asked)

-- name: read_chat_page
with recursive {page}
select {chat}, page.messages, page.large_id, page.next_revision, {turns} as turns,
    case when queue_length > 0 and queue_version > $9 then {queue} else '{}' end as queue,
    {actions}
from chats, page where chats.id = $1

-- name: read_messages
with recursive {page}
select messages, large_id, next_revision, {turns} as turns from page

-- name: list_messages
with recursive {page}
select page.messages, page.large_id, page.next_revision, {queue} as queue,
    {actions}
from chats left join page on true where chats.id = $1 and owner_id = $7

-- name: list_newest
-- Messages of the chat $1 with id < $3, the newest first: at most $4 of them, and $5 bytes, but one at least. One is found
-- before the other, so that no more of them is read than the page holds, and one that does not fit.
with recursive found as (
    (
        select id, 1 as number, octet_length(content::text)::bigint as bytes from messages
        where chat_id = (select $1::uuid) and id < $3 and {shown}
        order by id desc limit 1
    )
    union all
    select next.id, number + 1, bytes + next.size
    from found cross join lateral (
        select id, octet_length(content::text) as size from messages
        where chat_id = (select $1::uuid) and id < found.id and {shown}
        order by id desc limit 1
    ) as next
    where number <= $4 and (bytes <= $5 or number = 1)
)
select {chat}, {queue} as queue, found.large_id, found.has_more,
    (
        select json_agg({message_unless_large} order by id desc) from messages where id = any (found.ids)
    ) as messages
from chats, (
    select array_agg(id) filter (where number = 1 or number <= $4 and bytes <= $5) as ids,
        coalesce(bool_or(number > 1 and (number > $4 or bytes > $5)), false) as has_more,
        {large_id}
    from found
) as found
where chats.id = $1 and chats.owner_id = $2

-- name: select_versions
select id, snapshot_version, history_version, queue_version, epoch, status from chats where id = any($1::text[]::uuid[])

-- name: list_chats
select {chat} from {listed}

-- name: list_chat_ids
select id from {listed}

-- fragment: listed
chats
where owner_id = $1 and parent_id is null
    and ($2::boolean is null or archived = $2)
    and ($6::boolean is null or pinned = $6)
    and ($7::text is null or title ~ $7)
    and (chats.created_at, chats.id)
        < (coalesce($3::text::timestamptz, 'infinity'), coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by chats.created_at desc, chats.id desc
limit $5

-- name: delete_chat
-- All that belongs to it goes with it. What it leaves to others is that it is gone.
with gone as (
    delete from chats where id = $1 or root_id = $1 returning id, owner_id
),
ended as (
    delete from turns where chat_id in (select id from gone)
),
freed as (
    delete from family_orders where root_id = $1
),
-- Whoever names chats and messages may name new ones the same (web/doors/beginning.py). An older key is not touched: who
-- takes it anew has locked it, and waits for the chat.
forgotten as (
    delete from idempotency_keys using gone
    where idempotency_keys.owner_id = gone.owner_id and key like 'said-%'
        and created_at >= statement_timestamp() - interval '24 hours' and response->'chat'->>'id' = gone.id::text
)
insert into deleted_chats (chat_id, owner_id) select id, owner_id from gone
on conflict (chat_id) do update set deleted_at = excluded.deleted_at

-- name: list_deleted
select chat_id, owner_id from deleted_chats
where owner_id = any($1::text[]::uuid[])
    and deleted_at > least(statement_timestamp(), $3::timestamptz) - $2::float8 * interval '1 second'
    and not exists (select from chats where chats.id = deleted_chats.chat_id)
order by deleted_at desc
limit 1000

-- name: clock
select statement_timestamp() as now, wal_timeline() as timeline

-- name: list_changed
-- Looks at all chats of these owners: an index on updated_at would have to follow every change of every chat, and this
-- is asked once in a while, for those users alone who watch their lists.
select {chat} from {changed}

-- name: list_changed_ids
select id from {changed}

-- fragment: changed
chats
where owner_id = any($1::text[]::uuid[]) and parent_id is null
    and updated_at > least(statement_timestamp(), $3::timestamptz) - $2::float8 * interval '1 second'
    and ($4::timestamptz is null or ({moment chats.updated_at}, id) > ($4, $5::uuid))
order by {moment chats.updated_at}, id
limit $6

-- name: select_creation
-- As a text: the moment to go on from is the very one that the row has, also one that a program does not know.
select created_at::text as created_at from chats where id = $1 and owner_id = $2

-- fragment: remove_old_keys
-- Each use of the table also removes a few keys that are too old: no other clean-up is needed.
delete from idempotency_keys where (owner_id, key) in (
        select owner_id, key from idempotency_keys
        where created_at < statement_timestamp() - interval '24 hours'
            and (owner_id, key) not in (select owner_id, key from asked)
        order by created_at
        limit 10
        for update skip locked
    )

-- fragment: is_old_key
where idempotency_keys.created_at < statement_timestamp() - interval '24 hours'

-- name: reserve_key
-- Waits for a request with the same key that is under way. Returns a row if the key is new, or older than a day.
with asked as (
    select $1::uuid as owner_id, $2::text as key
),
removed as (
    {remove_old_keys}
)
insert into idempotency_keys (owner_id, key, request_digest)
select owner_id, key, $3 from asked
on conflict (owner_id, key) do update
    set request_digest = excluded.request_digest, created_at = excluded.created_at, response = null
    {is_old_key}
returning true

-- name: select_key
select request_digest, response from idempotency_keys where owner_id = $1 and key = $2

-- name: answer_key
update idempotency_keys set response = $3::text::json where owner_id = $1 and key = $2
