-- The queries of sealed.py. See queries.py for the form of this file. $1 is what begins a value of the newest key, $2
-- how many rows at most, $3 how many of the first are passed over, as no key opens them; rows that somebody holds come
-- with a later look.

-- name: stale_mcp_servers
select id, sealed from mcp_servers where sealed is not null and substring(sealed for octet_length($1::bytea)) <> $1::bytea
order by id limit $2 offset $3 for update skip locked

-- name: reseal_mcp_servers
update mcp_servers set sealed = $1 where id = $2

-- name: stale_mcp_grants
select server_id, user_id, sealed from mcp_grants where substring(sealed for octet_length($1::bytea)) <> $1::bytea
order by server_id, user_id limit $2 offset $3 for update skip locked

-- name: reseal_mcp_grants
update mcp_grants set sealed = $1 where server_id = $2 and user_id = $3

-- name: stale_mcp_logins
select state_digest, sealed from mcp_logins where substring(sealed for octet_length($1::bytea)) <> $1::bytea
order by state_digest limit $2 offset $3 for update skip locked

-- name: reseal_mcp_logins
update mcp_logins set sealed = $1 where state_digest = $2

-- name: stale_providers
select name, sealed from providers where sealed is not null and substring(sealed for octet_length($1::bytea)) <> $1::bytea
order by name limit $2 offset $3 for update skip locked

-- name: reseal_providers
update providers set sealed = $1 where name = $2

-- name: stale_workspace_hosts
select id, sealed from workspace_hosts where substring(sealed for octet_length($1::bytea)) <> $1::bytea
order by id limit $2 offset $3 for update skip locked

-- name: reseal_workspace_hosts
update workspace_hosts set sealed = $1 where id = $2

-- name: count_stale
select
    (select count(*) from mcp_servers where sealed is not null and substring(sealed for octet_length($1::bytea)) <> $1::bytea)
    + (select count(*) from mcp_grants where substring(sealed for octet_length($1::bytea)) <> $1::bytea)
    + (select count(*) from mcp_logins where substring(sealed for octet_length($1::bytea)) <> $1::bytea)
    + (select count(*) from providers where sealed is not null and substring(sealed for octet_length($1::bytea)) <> $1::bytea)
    + (select count(*) from workspace_hosts where substring(sealed for octet_length($1::bytea)) <> $1::bytea)
