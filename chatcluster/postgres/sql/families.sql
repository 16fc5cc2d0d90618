-- The queries of families.py. See queries.py for the form of this file.

-- name: select_family
-- Parents come before their agents.
select {chat} from chats where root_id = $1 order by depth, chats.created_at, id

-- name: lock_parent
select status from chats where id = $1 for update

-- name: look_at_family
-- A statement after the lock. The calls of a chat that is being stopped are as good as answered: what its agents were
-- told of that, a new one was not.
select
    (select count(*) from chats where root_id = $2) as agents,
    exists (select from chats where id = $3) as is_there,
    exists (select from chats where id = $1 and status = 'running')
        and exists (select from tool_calls where chat_id = $1 and call_id = $4 and state <> 'done') as is_open

-- name: is_asker_gone
-- A statement after the agent's lock. An order that is given later waits for that lock, and so follows the message.
select not (
    exists (select from chats where id = $1 and status = 'running')
    and exists (select from tool_calls where chat_id = $1 and call_id = $2 and state <> 'done')
)

-- name: note_agents
-- Nothing that the state machine knows of, so no version moves.
update chats set has_agents = true where id = $1 and not has_agents

-- name: lock_waiting
select {chat}, wal_timeline() as wal_timeline from chats
where id = $1 and status = 'requires_action' and content_version <= {content_version}
for update

-- name: lock_waiting_now
select {chat}, wal_timeline() as wal_timeline from chats
where id = $1 and status = 'requires_action' and content_version <= {content_version}
for update skip locked

-- fragment: at_rest
(agent.archived or agent.status in ('waiting', 'error'))

-- fragment: due_reports
-- In no order: a chat that can be neither read nor written is in nobody's way.
select tool_calls.chat_id
from tool_calls
    join chats on chats.id = tool_calls.chat_id
    left join chats as agent on agent.id = tool_calls.agent_id
where tool_calls.state = 'agents' and chats.status = 'requires_action'
    and chats.content_version <= {content_version}
    and (agent.id is null or {at_rest} or tool_calls.deadline <= statement_timestamp())
group by tool_calls.chat_id
order by random()
limit $1

-- fragment: due_orders
select chat_id from family_orders where $2::uuid is null or root_id = $2
order by random()
limit $1

-- fragment: undone_reports
select 'report' as kind, chat_id from ({due_reports}) as reports

-- fragment: undone_orders
select 'order' as kind, chat_id from ({due_orders}) as orders

-- fragment: undone_overdue
(select 'overdue' as kind, chats.id as chat_id {overdue} limit 1)

-- name: select_undone
{undone_reports} union all {undone_orders} union all {undone_overdue}

-- name: select_undone_reports
{undone_reports}

-- name: select_undone_orders
{undone_orders}

-- name: select_undone_overdue
{undone_overdue}

-- name: select_awaited
-- A statement after the lock: the calls of the chat $1 that wait for an agent no longer, each with that agent if it is
-- one of the chat's. Whoever is above an agent is looked for from below: a family has few generations.
with recursive awaited as (
    select id as place, call_id, agent_id, deadline <= statement_timestamp() as is_over
    from tool_calls where chat_id = $1 and state = 'agents'
),
line as (
    select awaited.agent_id, chats.parent_id from awaited join chats on chats.id = awaited.agent_id
    union
    select line.agent_id, above.parent_id from line join chats as above on above.id = line.parent_id
    where line.parent_id <> $1
)
select awaited.call_id as awaiting_call, awaited.agent_id as awaited_agent, agent.said, agent.is_too_long,
    agent.waits_for, {chat}
from awaited
    left join chats on chats.id = awaited.agent_id
        and exists (select from line where line.agent_id = awaited.agent_id and line.parent_id = $1)
    left join lateral (
        select
            octet_length(content::text) > $3 as is_too_long,
            case when octet_length(content::text) <= $3 then content::text end as said,
            (
                select array_agg(distinct name) from tool_calls
                where tool_calls.chat_id = chats.id
                    and ({waits_for_people} and chats.status = 'requires_action' or {asks_now})
            ) as waits_for
        from (
            select (
                -- The newest words of its model since it was last asked for something; calls alone are none.
                select content from messages
                where messages.chat_id = chats.id and role = 'assistant' and deleted_at is null
                    and (octet_length(content::text) > $3 or content::text ~ '"type":"text","text":"[^"]')
                    and messages.id > (
                        select max(asked.id) from messages as asked
                        where asked.chat_id = chats.id and asked.role = 'user' and asked.deleted_at is null
                    )
                order by messages.id desc limit 1
            ) as content
            offset 0
        ) as last
    ) as agent on chats.id is not null
where is_over or chats.id is null or chats.archived or chats.status in ('waiting', 'error')
order by place
limit $2

-- name: order_agents
-- The agents of the chat $1 itself: each gives orders to its own when it obeys. What goes into the archive, or out of it,
-- stops in any case.
insert into family_orders (chat_id, root_id, word)
select id, $2, $3 from chats where parent_id = $1 and root_id = $2
on conflict (chat_id) do update set word = excluded.word where excluded.word <> 'close'

-- name: order_look
-- An order that is there already is written anew, so that whoever obeys it waits for what it is about.
insert into family_orders (chat_id, root_id, word) values ($1, $1, $2)
on conflict (chat_id) do update set word = excluded.word

-- name: select_due_orders
{due_orders}

-- name: lock_ordered
select {chat}, wal_timeline() as wal_timeline from chats
where id = $1 and content_version <= {content_version}
for update skip locked

-- name: select_order
-- A statement after the lock.
select word from family_orders where chat_id = $1

-- name: delete_order
delete from family_orders where chat_id = $1

-- name: forget_order
-- Of a chat that is gone.
delete from family_orders where chat_id = $1 and not exists (select from chats where id = $1)

-- name: is_family_busy
select exists (
    select from chats where root_id = $1 and not archived
        and status in ('running', 'interrupting', 'requires_action')
)
