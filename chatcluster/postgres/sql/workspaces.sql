-- The queries of workspaces.py: templates, and what users and replicas ask. See queries.py for the form of this file.

-- fragment: template
id, name, settings::text as settings, revision, {moment created_at} as created_at, {moment updated_at} as updated_at

-- fragment: bumped
-- An end further away than any use can set it was told by a clock that was set back since.
expires_at = case when idle_seconds > 0 then
    least(
        greatest(expires_at, statement_timestamp() + {span bump_seconds}),
        statement_timestamp() + {span greatest(idle_seconds, bump_seconds)}
    ) end,
last_used_at = statement_timestamp()

-- fragment: wants_bump
-- Use in the future was told by a clock that was set back since.
workspaces.state = 'running'
and workspaces.last_used_at
    not between statement_timestamp() - {bump_after} * {span workspaces.bump_seconds} and statement_timestamp()

-- fragment: bump_after
0.05

-- name: list_templates
-- With the name of the user that asks, whom templates may be for.
select {template}, (select name from users where id = $1::uuid) as asker from workspace_templates order by name

-- name: select_template
select {template}, (select name from users where id = $2::uuid) as asker from workspace_templates
where name = $1 or id::text = $1
order by name = $1 desc
limit 1

-- name: lock_templates
lock table workspace_templates in share row exclusive mode

-- name: count_templates
select count(*) from workspace_templates

-- name: insert_template
insert into workspace_templates (id, name, settings) values ($1, $2, $3::text::json)
on conflict on constraint workspace_templates_name do nothing
returning {template}

-- name: update_template
update workspace_templates set
    settings = $2::text::json, revision = revision + 1, updated_at = statement_timestamp()
where name = $1 and revision = coalesce($3::bigint, revision)
returning {template}

-- name: delete_template
delete from workspace_templates where name = $1 returning id

-- name: lock_chat_workspace
-- One at a time for each chat, and for each user, whose are counted. Two keys, always in this order.
select pg_advisory_xact_lock(hashtextextended('workspaces of user ' || $1::text, 0)),
    pg_advisory_xact_lock(hashtextextended('workspaces of chat ' || $2::text, 0))

-- name: select_chat
select archived or archiving as archived from chats where id = $1 and owner_id = $2

-- name: select_of_chat
select {workspace} from workspaces where chat_id = $1 and state <> 'deleted' and not replaced

-- name: count_of_owner
select count(*) from workspaces where owner_id = $1 and state <> 'deleted'

-- name: replace_workspace
update workspaces set replaced = true, updated_at = statement_timestamp() where id = $1

-- name: insert_workspace
insert into workspaces (id, owner_id, chat_id, template_id, template_name, name, state, settings, parameters, bump_seconds,
    idle_seconds)
values ($1, $2, $3, $4, $5, $6, 'building', $7::text::json, $8::text::json, $9, $10)
returning {workspace}

-- name: select_hosts_words
-- Whether a host could run something, and what is wrong with those that cannot.
select
    exists (select from workspace_hosts where alive and problem = '') as able,
    (select string_agg(name || ': ' || problem, '; ' order by name) from workspace_hosts where alive) as problems

-- name: host_problem
-- Null where it is away, empty where it can run workspaces.
select problem from workspace_hosts where id = $1 and alive

-- name: select_workspace
select {workspace} from workspaces
where id = $1 and state <> 'deleted' and owner_id = coalesce($2::uuid, owner_id)

-- name: lock_workspace
select {workspace} from workspaces
where id = $1 and state <> 'deleted' and owner_id = coalesce($2::uuid, owner_id)
for update

-- name: list_workspaces
select {workspace} from workspaces
where state <> 'deleted' and ($1::uuid is null or owner_id = $1)
order by workspaces.created_at desc, id
limit 1000

-- name: start_workspace
-- What was never built, or on no host, is anybody's to build.
update workspaces set
    state = case when built then 'starting' else 'building' end,
    host_id = case when built then host_id end,
    generation = generation + 1, detail = '', startup = 'none', expires_at = null, last_used_at = null,
    updated_at = statement_timestamp()
where id = $1
returning {workspace}

-- name: stop_workspace
update workspaces set
    state = case when host_id is null then 'stopped' else 'stopping' end, updated_at = statement_timestamp()
where id = $1
returning {workspace}

-- name: delete_workspace
update workspaces set state = 'deleted', updated_at = statement_timestamp() where id = $1

-- name: drop_workspace
delete from workspaces where id = $1

-- name: locate
select {workspace}, coalesce(workspace_hosts.address, '') as address, workspace_hosts.sealed
from workspaces left join workspace_hosts on workspace_hosts.id = workspaces.host_id and workspace_hosts.alive
where workspaces.id = $1 and state <> 'deleted'

-- name: bump
update workspaces set {bumped} where id = $1 and {wants_bump} returning id

-- name: bump_owned
-- An agent works in the workspace of the chat that it belongs to.
-- One that somebody holds gets its time by a later statement, and all others by this.
update workspaces set {bumped}
where id in (
    select workspaces.id from workspaces join chats on workspaces.chat_id = coalesce(chats.root_id, chats.id)
    where chats.worker_id = $1 and {wants_bump}
    for update of workspaces skip locked
)
returning workspaces.id

-- name: select_log
select number, {moment at} as at, source, line as text from workspace_log where workspace_id = $1 and number > $2 order by number limit $3
