-- The queries of ledger.py and call_writer.py. See queries.py for the form of this file.

-- name: select_open_calls
select {calls} as open_calls from chats where id = $1

-- name: select_actions
select {actions} from chats where id = $1

-- name: open_calls
insert into tool_calls (chat_id, message_id, call_id, name, state, effect, run_by, started_epoch, deaths, digest,
    arguments, approved, wait_seconds, agent_id)
select $1, message_id, call_id, name, state, effect, run_by, started_epoch, deaths, digest, arguments, approved,
    wait_seconds, agent_id::uuid
from unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::integer[],
    $10::text[], $11::text[], $12::boolean[], $13::float8[], $14::text[])
    with ordinality as new (message_id, call_id, name, state, effect, run_by, started_epoch, deaths, digest, arguments,
        approved, wait_seconds, agent_id, ordinal)
order by ordinal

-- name: change_calls
-- What a call waits for is something else now, if it waits at all. One whose server asks while it runs waits from now on.
update tool_calls set
    state = new.state, started_epoch = new.started_epoch, deaths = new.deaths, digest = new.digest,
    arguments = new.arguments, approved = new.approved, wait_seconds = new.wait_seconds, questions = new.questions,
    answers = new.answers, resume = new.resume,
    deadline = case when new.state = 'started' and new.questions is not null and new.answers is null then
        statement_timestamp() + greatest(0, least(new.wait_seconds, 31536000)) * interval '1 second'
    end
from unnest($2::text[], $3::text[], $4::bigint[], $5::integer[], $6::text[], $7::text[], $8::boolean[], $9::float8[],
    $10::text[], $11::text[], $12::text[])
    as new (call_id, state, started_epoch, deaths, digest, arguments, approved, wait_seconds, questions, answers, resume)
where tool_calls.chat_id = $1 and tool_calls.call_id = new.call_id and tool_calls.state <> 'done'

-- name: close_calls
update tool_calls set state = 'done', finished_at = statement_timestamp()
where chat_id = $1 and call_id = any($2::text[]) and state <> 'done'

-- name: set_deadlines
-- Where the chat comes to rest, and not before: until then nobody can answer. A wait has an end, whatever it says. Every
-- call without a result waits then, so the entries of all calls of a step are of the same times.
update tool_calls set
    waits = waits || state,
    deadline = statement_timestamp() + greatest(0, least(coalesce(wait_seconds, $2::float8), 31536000)) * interval '1 second'
where chat_id = $1 and {waits_for_somebody} and deadline is null

-- name: select_overdue_chats
-- IDs alone: nothing that may be unreadable. In no order: a chat that can be neither read nor written is in nobody's way.
select chats.id {overdue}
group by chats.id
order by random()
limit $1

-- name: lock_overdue_chat
-- Nothing if somebody holds the row: there is a next time.
select {chat}, wal_timeline() as wal_timeline from chats
where id = $1 and status = 'requires_action' and content_version <= {content_version}
for update skip locked

-- name: select_overdue
-- A statement after the lock.
select coalesce(array_agg(call_id order by id), '{}') from tool_calls
where chat_id = $1 and deadline <= statement_timestamp() and {waits_for_people}

-- name: select_sign_in_waits
-- Whatever waits has a deadline: the index of those is small.
select tool_calls.chat_id, chats.owner_id, tool_calls.call_id, tool_calls.name as tool
from tool_calls join chats on chats.id = tool_calls.chat_id
where tool_calls.deadline is not null and tool_calls.state = 'sign_in' and chats.status = 'requires_action'
    and ($1::uuid is null or chats.owner_id = $1)
order by random()
limit $2

-- name: end_overdue
-- Nothing of the row is read but what is needed to find it: a column of it cannot be. What the turn was is lost.
with {wal},
ended as (
    update chats set
        status = 'error', cause = 'error', open_calls = 0, action_deadline = null, last_error = $2::text::json,
        {next_version}, updated_at = statement_timestamp()
    from wal
    where id = $1 and status = 'requires_action'
    returning id, snapshot_version
),
{turn_and_calls_ended}

-- name: select_waits
select call_id, waits from tool_calls where chat_id = $1 and message_id = $2 and waits <> '{}' order by id

-- name: select_known_calls
select call_id from tool_calls where chat_id = $1 and call_id = any($2::text[])

-- name: keep_result
-- The share of the lock makes a claim wait: what a tenure keeps is kept before the next one begins.
with held as (
    select id from chats where id = $1 and worker_id = $2 and epoch = $3 for share
),
kept as (
    insert into tool_results (tool_call_id, data)
    select tool_calls.id, $5::bytea from held join tool_calls on chat_id = held.id
    where call_id = $4 and state <> 'done'
    on conflict (tool_call_id) do update set data = excluded.data
    returning tool_call_id
)
select exists (select from held) as is_held, exists (select from kept) as is_kept

-- name: keep_prefix
-- The share of the lock as above. The number tells how often it became another one.
with held as (
    select id from chats where id = $1 and worker_id = $2 and epoch = $3 for share
),
kept as (
    insert into chat_prefixes as known (chat_id, number, digest, data)
    select id, 1, $4, $5::bytea from held
    on conflict (chat_id) do update set number = known.number + 1, digest = excluded.digest, data = excluded.data
    where known.digest <> excluded.digest
)
select exists (select from held)

-- name: read_prefix
select data from chat_prefixes where chat_id = $1

-- name: keep_given
insert into tool_results (tool_call_id, data)
select id, $3::bytea from tool_calls where chat_id = $1 and call_id = $2 and state <> 'done'
on conflict (tool_call_id) do update set data = excluded.data

-- name: read_result
select substring(data from $3::integer + 1 for $4::integer) as data, octet_length(data) as total_bytes
from tool_results join tool_calls on tool_calls.id = tool_call_id
where chat_id = $1 and call_id = $2
order by tool_calls.id desc
limit 1

-- name: permit
-- Each use of the table also removes what has expired of this user: no other clean-up is needed.
with removed as (
    delete from tool_permissions where user_id = $1 and expires_at < statement_timestamp() - interval '1 day'
)
insert into tool_permissions (user_id, chat_id, tool, expires_at)
values ($1, $2, $3, statement_timestamp() + $4::float8 * interval '1 second')
on conflict (user_id, tool, coalesce(chat_id, '00000000-0000-0000-0000-000000000000')) do update
    set created_at = statement_timestamp(), expires_at = excluded.expires_at

-- name: permissions
select distinct tool from tool_permissions
where user_id = $1 and (chat_id is null or chat_id = any ($2::uuid[])) and expires_at > statement_timestamp()

-- name: list_permissions
select id, tool, chat_id, {moment created_at} as created_at, {moment expires_at} as expires_at
from tool_permissions where user_id = $1 and expires_at > statement_timestamp()
order by tool_permissions.created_at desc, id
limit $2

-- name: delete_permission
delete from tool_permissions where user_id = $1 and id = $2 returning true
