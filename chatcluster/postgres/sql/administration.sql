-- The queries of administration.py. See queries.py for the form of this file.

-- name: list_takeovers
select id, chat_id, owner_id, cause, from_worker, from_name, {moment freed_at} as freed_at, to_worker, to_name,
    {moment claimed_at} as claimed_at,
    case when claimed_at is not null then
        greatest(0, trunc(extract(epoch from {moment claimed_at} - {moment freed_at}) * 1000))
    end::bigint as gap_ms
from takeovers
where id < $1
    and ($2::uuid is null or chat_id = $2)
    and ($3::uuid is null or from_worker = $3 or to_worker = $3)
    and ($4::text is null or cause = $4)
order by id desc
limit $5

-- name: select_creation
select created_at::text as created_at from chats where id = $1

-- name: list_chats
select {chat}, users.name as user_name
from chats left join users on users.id = chats.owner_id
where (chats.created_at, chats.id)
        < (coalesce($1::text::timestamptz, 'infinity'), coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    and ($3::text is null or users.name = $3)
    and ($4::text is null or $4 = case
        when chats.status = 'running' and worker_id is null and not archived then 'pending' else chats.status end)
    and ($5::uuid is null or worker_id = $5)
    and ($6::boolean is null or archived = $6)
    and ($7::text is null or title ~ $7)
order by chats.created_at desc, chats.id desc
limit $8

-- name: list_users
select id, name, admin, {moment created_at} as created_at,
    (select count(*) from chats where chats.owner_id = users.id) as chats,
    (select count(*) from tokens where tokens.user_id = users.id and revoked_at is null) as tokens
from users where name > $1
order by name
limit $2

-- name: list_audit
select id, {moment at} as at, user_id, user_name, action, target, details::text as details from audit_entries where id < $1
order by id desc
limit $2

-- name: record
insert into audit_entries (user_id, user_name, action, target, details) values ($1, $2, $3, $4, $5::text::json)

-- name: request_drain
update replicas set drain_requested = true where worker_id = $1 returning worker_id
