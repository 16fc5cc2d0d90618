-- What the other files share. See queries.py for the form of this file.

-- fragment: moment
-- The server knows times that a program does not: those before the year 1 and after 9999.
case when {it} is not null then greatest('0001-01-02', least({it}, '9999-12-30')) end

-- fragment: span
-- No longer than a lifetime, whatever number of seconds a row has: others of the same statement are none the worse.
greatest(0, least({it}, 3000000000)) * interval '1 second'

-- fragment: chat
{frame}, {long_columns}

-- fragment: framed
-- The chat as far as it can be read whatever is damaged: what may be long is not touched, as it may be kept elsewhere.
{frame}, {unread_columns}

-- fragment: frame
chats.id, chats.owner_id, {short_columns}, chats.queue_length, chats.open_calls, chats.content_bytes,
chats.has_agents,
{moment chats.retry_at} as retry_at, {moment chats.created_at} as created_at, {moment chats.updated_at} as updated_at

-- fragment: readable
-- By this version: what a newer one wrote is left to those that know it.
chats.content_version <= {content_version}

-- fragment: nobody_waits
-- For an owner. Each is a look into a small partial index, by the order, whatever is known of the table.
(
    select true from chats where status = 'running' and claimable_since is not null and {readable}
    order by claimable_since limit 1
) is null
and (
    select true from chats where status = 'interrupting' and claimable_since is not null and {readable}
    order by claimable_since limit 1
) is null

-- fragment: told
-- What the model of the chat is told before the conversation.
(select text from prompts where prompts.owner_id = '00000000-0000-0000-0000-000000000000') as system_prompt,
(select text from chat_prompts where chat_prompts.chat_id = chats.id) as own_prompt,
(select text from prompts where prompts.owner_id = chats.owner_id) as user_prompt,
(select digest from chat_prefixes where chat_prefixes.chat_id = chats.id) as prefix_digest

-- fragment: waits_for_somebody
tool_calls.state in ('approval', 'client', 'agents', 'sign_in', 'question')

-- fragment: waits_for_people
tool_calls.state in ('approval', 'client', 'sign_in', 'question')

-- fragment: overdue
-- Calls that have waited for somebody for as long as they may.
from tool_calls join chats on chats.id = tool_calls.chat_id
where tool_calls.deadline <= statement_timestamp() and tool_calls.state <> 'done' and {waits_for_people}
    and chats.status = 'requires_action' and chats.content_version <= {content_version}

-- fragment: asks_now
-- The call runs, and its server waits for an answer of the user.
tool_calls.state = 'started' and tool_calls.questions is not null and tool_calls.answers is null

-- fragment: calls
-- The calls of the chat $1 that have no result.
(
    select coalesce(json_agg(json_build_object('call_id', call_id, 'name', name, 'state', state, 'effect', effect,
        'run_by', run_by, 'started_epoch', started_epoch, 'deaths', deaths, 'digest', digest, 'arguments', arguments,
        'approved', approved, 'seconds', wait_seconds, 'agent_id', agent_id,
        'inquiry', case when questions is not null then
            json_build_object('questions', json_or_text(questions), 'answers', answers, 'resume', resume)
        end,
        'deadline', {moment deadline}
    ) order by id), '[]')
    from tool_calls where chat_id = $1 and state <> 'done'
)

-- fragment: may_wait
-- For somebody: the chat, a call of it, or an agent of it.
(chats.status = 'requires_action' or chats.has_agents or (chats.status = 'running' and chats.open_calls > 0))

-- fragment: actions
-- The calls of the chat that wait for somebody, with the arguments that the message has which asks for them. And those of
-- its agents, behind its own. Of a chat at work those whose servers ask the user something meanwhile.
case when {may_wait} then (
    select json_agg(json_strip_nulls(json_build_object('call_id', call_id, 'name', name, 'digest', digest,
        'kind', case when state = 'started' then 'question' else state end,
        'arguments', coalesce(tool_calls.arguments, asking.arguments, ''), 'may_have_run', state <> 'started' and started_epoch is not null,
        'deadline', {moment deadline},
        'chat_id', case when tool_calls.chat_id <> chats.id then tool_calls.chat_id end,
        'questions', case when state in ('question', 'started') then json_or_text(tool_calls.questions) end
    )) order by tool_calls.chat_id <> chats.id, tool_calls.id)
    from tool_calls left join lateral (
        select part ->> 'arguments' as arguments
        from messages, json_array_elements(
            -- What the server cannot take apart is not taken apart.
            case when messages.content::text ~ '\\u(0000|[dD][89a-fA-F])' then '[]' else messages.content end
        ) as part
        where messages.id = tool_calls.message_id and part ->> 'type' = 'tool_call' and part ->> 'id' = call_id
        limit 1
    ) as asking on true
    where deadline is not null and tool_calls.chat_id in (
        select chats.id where chats.status in ('requires_action', 'running')
        union all
        select agent.id from chats as agent
        where chats.has_agents and agent.root_id = chats.id and agent.status in ('requires_action', 'running')
    ) and (
        {asks_now}
        or {waits_for_people} and exists (
            select from chats as resting where resting.id = tool_calls.chat_id and resting.status = 'requires_action'
        )
    )
) end as actions

-- fragment: asked
-- The message that a turn of the chat ``ending`` answers is the newest of its user, as this statement finds the history.
-- The turn began when that came into history; a clock that was set back makes it short, not negative.
lateral (
    select id, greatest(0, extract(
        epoch from statement_timestamp() - {moment created_at}
    ) * 1000)::bigint as duration_ms
    from messages where chat_id = ending.id and role = 'user' and deleted_at is null
    order by id desc limit 1
) as asked

-- fragment: turn_and_calls_ended
-- What the end of a chat ``ended``, unread and in the error $2, means for its turn and its calls.
turn as (
    insert into turns (chat_id, revision, message_id, outcome, code, duration_ms)
    select ending.id, ending.snapshot_version, asked.id, 'error', $2::text::json ->> 'code', duration_ms
    from ended as ending, {asked}
)
update tool_calls set state = 'done', finished_at = statement_timestamp()
where chat_id = (select id from ended) and state <> 'done'

-- fragment: spent_columns
history_version, attempt, epoch, outcome, model, provider, input_tokens, cached_input_tokens, cache_write_tokens,
    output_tokens, reasoning_tokens, searches, cost_micros

-- fragment: new_spent_columns
new.history_version, new.attempt, new.epoch, new.outcome, new.model, new.provider, new.input_tokens,
    new.cached_input_tokens, new.cache_write_tokens, new.output_tokens, new.reasoning_tokens, new.searches,
    new.cost_micros

-- fragment: spent_values
history_version bigint, attempt bigint, epoch bigint, outcome text, model text, provider text, input_tokens bigint,
    cached_input_tokens bigint, cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint, searches bigint,
    cost_micros bigint

-- fragment: most
-- A sum is a number that everybody can read, whatever is in the rows.
case when {it} is not null then greatest(-9007199254740991, least({it}, 9007199254740991)) end::bigint

-- fragment: total
greatest(-9007199254740991, least(coalesce(sum({it}), 0), 9007199254740991))::bigint

-- fragment: bill
-- The sum of rows of usage_events, null where there is none.
case when count(*) > 0 then json_build_object('attempts', count(*),
    'input_tokens', {total input_tokens},
    'cached_input_tokens', {total cached_input_tokens},
    'cache_write_tokens', {total cache_write_tokens},
    'output_tokens', {total output_tokens},
    'reasoning_tokens', {total reasoning_tokens},
    'searches', {total searches},
    'cost_micros', {most sum(cost_micros)},
    'unpriced', count(*) - count(cost_micros)) end

-- fragment: bill_of_turn
-- Of the turn of ``ending`` that ends with this statement: what was booked since the one before it ended, and what is
-- being ``booked``, which this statement does not find yet.
(
    select {bill}
    from (
        select {spent_columns} from usage_events
        where chat_id = ending.id
            and history_version >= (select coalesce(max(revision), 1) from turns where turns.chat_id = ending.id)
        union all
        select {spent_columns} from booked
    ) as of_turn
)

-- fragment: workspace
workspaces.id, workspaces.owner_id, workspaces.chat_id, workspaces.template_id, workspaces.template_name,
workspaces.name, workspaces.state, workspaces.settings::text as settings, workspaces.parameters::text as parameters,
workspaces.generation, workspaces.host_id, workspaces.detail, workspaces.startup, workspaces.built, workspaces.replaced,
{moment workspaces.expires_at} as expires_at, {moment workspaces.last_used_at} as last_used_at,
{moment workspaces.created_at} as created_at, {moment workspaces.started_at} as started_at,
{moment workspaces.updated_at} as updated_at

-- fragment: bytes
-- What a message counts for: its content, whatever else it has that is not bounded, and a little for being there.
(256 + octet_length(content::text) + coalesce(octet_length(usage::text), 0) + coalesce(octet_length(model), 0)
    + coalesce(octet_length(position), 0) + coalesce(octet_length(finish_reason), 0))::bigint

-- fragment: server
-- This start of this server: two sessions that say the same are on one server, whatever the way to it.
extract(epoch from pg_postmaster_start_time())::text

-- fragment: large_bytes
-- A message of so many comes without its content, which is read in pieces.
1048576

-- fragment: piece_bytes
262144

-- fragment: parts_max
-- Of a large message: decoding more takes too long.
20000
