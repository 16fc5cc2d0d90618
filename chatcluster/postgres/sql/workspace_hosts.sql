-- The queries of workspace_hosts.py: what hosts say and ask. See queries.py for the form of this file.

-- fragment: at_work
-- Its chat, or an agent of its, is owned by a worker now.
(
    exists (select from chats where chats.id = workspaces.chat_id and chats.worker_id is not null)
    or exists (select from chats where chats.root_id = workspaces.chat_id and chats.worker_id is not null)
)

-- name: list_hosts
select workspace_hosts.id, incarnation, name, address, version, provider, sealed, problem, alive, {moment started_at} as started_at,
    greatest(0, extract(epoch from statement_timestamp() - {moment heartbeat_at}))::float8 as heartbeat_age_seconds,
    (
        select count(*) from workspaces
        where host_id = workspace_hosts.id and state in ('building', 'starting', 'running')
    ) as workspaces
from workspace_hosts
order by name, id

-- name: register
insert into workspace_hosts (id, incarnation, name, address, version, provider, sealed, problem)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (id) do update set
    incarnation = excluded.incarnation, name = excluded.name, address = excluded.address, version = excluded.version,
    provider = excluded.provider, sealed = excluded.sealed, problem = excluded.problem, alive = true,
    token = gen_random_uuid(), started_at = statement_timestamp(), heartbeat_at = statement_timestamp()

-- name: stop_of_host
-- Its process ended, and with it all that ran there.
update workspaces set
    state = 'stopped', expires_at = null, updated_at = statement_timestamp(),
    detail = case when state = 'stopping' then detail else $2 end
where host_id = $1 and state in ('starting', 'running', 'stopping', 'lost')
returning {workspace}

-- name: renew
update workspace_hosts set token = gen_random_uuid(), heartbeat_at = statement_timestamp(), problem = $3
where id = $1 and incarnation = $2 and alive
returning id

-- name: retire
update workspace_hosts set alive = false where id = $1 and incarnation = $2 and alive returning id

-- fragment: left_behind
-- On a host that is not alive: somebody held its row when that was buried, or retired. A later burial makes up for it.
workspaces.host_id = workspace_hosts.id and workspaces.state in ('building', 'starting', 'running', 'stopping')

-- name: select_heartbeats
select id, token::text as token,
    greatest(0, extract(epoch from statement_timestamp() - {moment heartbeat_at}))::float8 as age_seconds
from workspace_hosts where alive or exists (select from workspaces where {left_behind})

-- name: bury
-- Whether it was alive. A burial waits for nobody who holds the row of a workspace.
with before as (
    select id, alive from workspace_hosts
    where id = $1 and token::text = $2 and (alive or exists (select from workspaces where {left_behind}))
    for no key update
)
update workspace_hosts set alive = false from before
where workspace_hosts.id = before.id
returning before.alive

-- name: free_builds
update workspaces set host_id = null, updated_at = statement_timestamp()
where id in (select id from workspaces where host_id = $1 and state = 'building' for update skip locked)

-- name: lose_of_host
update workspaces set
    state = case when state = 'stopping' then 'stopped' else 'lost' end, expires_at = null,
    detail = case when state = 'stopping' then detail else $2 end, updated_at = statement_timestamp()
where id in (
    select id from workspaces where host_id = $1 and state in ('starting', 'running', 'stopping')
    for update skip locked
)
returning {workspace}

-- name: hold_lease
-- No lock keeps a burial from happening meanwhile: what is taken then is left behind, and a later burial frees it.
select id from workspace_hosts where id = $1 and incarnation = $2 and alive for key share

-- name: take
-- Builds that nobody has, the oldest first.
update workspaces set host_id = $1, updated_at = statement_timestamp()
where id in (
    select id from workspaces where host_id is null and state = 'building'
    order by created_at limit $2 for update skip locked
)

-- name: select_last_uses
select id, {moment last_used_at} as last_used_at,
    extract(epoch from {moment expires_at} - statement_timestamp())::float8 as seconds_left
from workspaces
where host_id = $1 and state = 'running' and expires_at is not null and last_used_at is not null

-- fragment: idle
-- Its time is over by its host's clock, and nobody has used it since.
workspaces.expires_at is not null and exists (
    select from unnest($2::uuid[], $3::timestamptz[]) as idle (id, last_used_at)
    where idle.id = workspaces.id and idle.last_used_at = workspaces.last_used_at
)

-- name: keep_at_work
-- Those whose time is over while somebody works there: an owner's heartbeat may come later than a short time ends.
update workspaces set
    expires_at = statement_timestamp() + {span bump_seconds}, last_used_at = statement_timestamp()
where id in (
    select workspaces.id from workspaces
    where workspaces.host_id = $1 and workspaces.state = 'running' and {idle} and {at_work}
    for update skip locked
)

-- name: stop_idle
-- Those whose time is over, and those of archived chats.
update workspaces set
    state = 'stopping',
    detail = case when id = any($2::uuid[]) then 'nobody worked in it' else 'its chat was archived' end,
    updated_at = statement_timestamp()
where id in (
    select workspaces.id from workspaces left join chats on chats.id = workspaces.chat_id
    where workspaces.host_id = $1 and workspaces.state in ('starting', 'running')
        and (({idle} and not {at_work}) or chats.archived or chats.archiving)
    for update of workspaces skip locked
)

-- name: delete_orphans
-- Those of chats that are gone.
update workspaces set state = 'deleted', updated_at = statement_timestamp()
where id in (
    select workspaces.id from workspaces
    where (workspaces.host_id = $1 or workspaces.host_id is null) and workspaces.state <> 'deleted'
        and not exists (select from chats where chats.id = workspaces.chat_id)
    limit 100 for update skip locked
)

-- name: drop_unplaced
delete from workspaces where id in (
    select id from workspaces where host_id is null and state = 'deleted' limit 100 for update skip locked
)

-- name: select_work
select {workspace} from workspaces
where host_id = $1 and state in ('building', 'starting', 'stopping', 'deleted')
order by workspaces.updated_at, id
limit 1000

-- name: report
update workspaces set
    state = $5,
    detail = $6,
    startup = case when $5 = 'running' then $7 else startup end,
    built = built or $5 = 'starting',
    started_at = case when $5 = 'running' and state <> 'running' then statement_timestamp() else started_at end,
    last_used_at = case when $5 = 'running' and state <> 'running' then statement_timestamp() else last_used_at end,
    expires_at = case
        when $5 <> 'running' or idle_seconds = 0 then null
        when state = 'running' then expires_at
        else statement_timestamp() + {span idle_seconds}
    end,
    updated_at = statement_timestamp()
where id = $3 and generation = $4 and state = any($8::text[]) and host_id = $1
    and exists (select from workspace_hosts where id = $1 and incarnation = $2 and alive)
returning id

-- name: removed
delete from workspaces
where id = $3 and state = 'deleted' and host_id = $1
    and exists (select from workspace_hosts where id = $1 and incarnation = $2 and alive)
returning id

-- name: closed_calls
select asked.chat_id, asked.call_id, coalesce(chats.epoch, $3::bigint) as epoch
from unnest($1::uuid[], $2::text[]) as asked (chat_id, call_id)
    left join chats on chats.id = asked.chat_id
where chats.id is null or chats.archived or chats.archiving or chats.status = 'interrupting' or not exists (
    select from tool_calls
    where tool_calls.chat_id = asked.chat_id and tool_calls.call_id = asked.call_id and tool_calls.state <> 'done'
)

-- name: append_log
insert into workspace_log (workspace_id, source, line)
select $1, source, line from unnest($2::text[], $3::text[]) with ordinality as new (source, line, place)
where exists (select from workspaces where id = $1 for key share)
order by place

-- name: trim_log
delete from workspace_log where workspace_id = $1 and number <= (
    select number from workspace_log where workspace_id = $1 order by number desc offset $2 limit 1
)
