-- The queries of mcp_servers.py. See queries.py for the form of this file.

-- fragment: server
id, slug, settings::text as settings, revision, sealed, shown::text as shown, {moment secrets_at} as secrets_at,
{moment created_at} as created_at, {moment updated_at} as updated_at

-- fragment: grant
server_id, user_id, sealed, revision, refused,
extract(epoch from {moment expires_at} - statement_timestamp())::float8 as seconds_left, {moment updated_at} as updated_at

-- name: list_servers
select {server} from mcp_servers order by slug

-- name: lock_count
-- One that adds at a time, so that the count is true.
lock table mcp_servers in share row exclusive mode

-- name: count_servers
select count(*) from mcp_servers

-- name: insert_server
insert into mcp_servers (id, slug, settings, sealed, shown, secrets_at)
values ($1, $2, $3::text::json, $4, $5::text::json, case when $4::bytea is null then null else statement_timestamp() end)
on conflict on constraint mcp_servers_slug do nothing
returning {server}

-- name: slug_is_taken
select exists (select from mcp_servers where slug = $1 and id <> $2)

-- name: lock_server
select {server} from mcp_servers where id = $1 for update

-- name: update_server
update mcp_servers set
    slug = $2,
    settings = $3::text::json,
    revision = revision + 1,
    sealed = $4,
    shown = $5::text::json,
    secrets_at = case
        when $4::bytea is null then null
        when $4 is distinct from sealed then statement_timestamp()
        else secrets_at
    end,
    updated_at = statement_timestamp()
where id = $1
returning {server}

-- name: delete_server
delete from mcp_servers where slug = $1 returning id

-- name: forget_grants
with begun as (delete from mcp_logins where server_id = $1)
delete from mcp_grants where server_id = $1

-- name: forget_permissions
delete from tool_permissions where starts_with(tool, $1)

-- name: delete_old_logins
delete from mcp_logins where state_digest in (
    select state_digest from mcp_logins where expires_at < statement_timestamp() limit 100 for update skip locked
)

-- name: insert_login
-- Whether it is a new one; no row if the server is gone.
insert into mcp_logins (state_digest, server_id, user_id, sealed, expires_at)
select $1, id, $3, $4, statement_timestamp() + $5::float8 * interval '1 second' from mcp_servers where id = $2
on conflict (state_digest) do update set expires_at = mcp_logins.expires_at
returning xmax = 0

-- name: take_login
delete from mcp_logins where state_digest = $1
returning state_digest, server_id, user_id, sealed, expires_at > statement_timestamp() as is_valid

-- name: select_grant
select {grant} from mcp_grants where server_id = $1 and user_id = $2

-- name: select_grants
select {grant} from mcp_grants where user_id = $1

-- name: put_grant
insert into mcp_grants (server_id, user_id, sealed, expires_at)
select id, $2, $3, statement_timestamp() + {span $4::float8} from mcp_servers where id = $1
on conflict (server_id, user_id) do update set
    sealed = excluded.sealed,
    expires_at = excluded.expires_at,
    revision = mcp_grants.revision + 1,
    refused = false,
    refreshing_until = null,
    updated_at = statement_timestamp()
returning revision

-- name: refresh_grant
update mcp_grants set
    sealed = $4,
    expires_at = statement_timestamp() + {span $5::float8},
    revision = revision + 1,
    refused = false,
    refreshing_until = null,
    updated_at = statement_timestamp()
where server_id = $1 and user_id = $2 and revision = $3
returning revision

-- name: claim_refresh
update mcp_grants set refreshing_until = statement_timestamp() + $4::float8 * interval '1 second'
where server_id = $1 and user_id = $2 and revision = $3
    and (refreshing_until is null or refreshing_until < statement_timestamp())
returning revision

-- name: refuse_grant
update mcp_grants set
    refused = true,
    revision = revision + 1,
    refreshing_until = null,
    updated_at = statement_timestamp()
where server_id = $1 and user_id = $2 and revision = $3
returning revision

-- name: delete_grant
delete from mcp_grants where server_id = $1 and user_id = $2 returning revision
