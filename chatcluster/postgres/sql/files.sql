-- The queries of files.py, and of what a transition writes about files. See queries.py for the form of this file.

-- fragment: file
id, owner_id, name, coalesce(media_type, '') as media_type, size_bytes, coalesce(encode(sha256, 'hex'), '') as sha256, {moment files.created_at} as created_at

-- name: lock_room
-- Uploads of one user begin one after the other, so that together they keep within their room.
select pg_advisory_xact_lock(hashtextextended('files of ' || $1::uuid, 0))

-- name: used_bytes
select coalesce(sum(size_bytes), 0)::bigint from files where owner_id = $1

-- name: begin_file
insert into files (owner_id, name, size_bytes) values ($1, $2, $3) returning id

-- name: append_chunk
insert into file_chunks (file_id, number, data)
select id, $2, $3::bytea from files where id = $1 and finished_at is null for key share
on conflict (file_id, number) do update set data = excluded.data
returning number

-- name: finish_file
with finished as (
    update files set media_type = $2, size_bytes = $3, sha256 = decode($4, 'hex'),
        finished_at = coalesce(finished_at, statement_timestamp())
    where id = $1
    returning *
),
rendered as (
    insert into file_renditions (file_id, media_type, data)
    select id, $5::text, $6::bytea from finished where $5::text is not null
    on conflict (file_id) do nothing
)
select {file} from finished as files

-- name: discard_file
delete from files where id = $1 and finished_at is null

-- name: find_files
select {file} from files where owner_id = $1 and id = any($2::text[]::uuid[]) and finished_at is not null

-- name: find_same
select {file} from files
where owner_id = $1 and name = $2 and sha256 = decode($3, 'hex') and finished_at is not null and (
    created_at > statement_timestamp() - $4::interval or exists (select from chat_files where file_id = files.id)
)
order by files.created_at desc, id desc
limit 1

-- name: list_files
-- The newest first, after the file that is given, if one is.
select {file} from files
where owner_id = $1 and finished_at is not null
    and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
order by files.created_at desc, id desc
limit $2

-- name: delete_file
-- One that a chat refers to is not locked: the transition that lets go of it could wait for that lock.
delete from files where id = $1 and owner_id = $2 and finished_at is not null
    and not exists (select from chat_files where file_id = files.id)
returning id

-- name: read_chunk
select data from file_chunks where file_id = $1 and number = $2

-- name: sent_forms
select files.id, coalesce(file_renditions.media_type, files.media_type) as media_type,
    coalesce(octet_length(file_renditions.data), size_bytes)::bigint as size_bytes,
    file_renditions.file_id is not null as is_rendition
from files left join file_renditions on file_id = files.id
where files.id = any($1::text[]::uuid[]) and finished_at is not null

-- name: read_rendition
select data from file_renditions where file_id = $1

-- name: refer
-- Message $3, or queued message $4, has these files. How many of them there are, and how many files the chat has with
-- them. A file that is being deleted at the same time is waited for, and is then none.
with found as (
    select id from files
    where id = any($2::text[]::uuid[]) and finished_at is not null
        and owner_id = (select owner_id from chats where id = $1)
    for key share
),
added as (
    insert into chat_files (chat_id, file_id, message_id, queued_id)
    select $1, id, $3, $4 from found
    returning file_id
)
select (select count(*) from added) as found, (
    select count(*) from (select file_id from chat_files where chat_id = $1 union select file_id from added) as files
) as total

-- name: let_go_of_queued
delete from chat_files where queued_id = $1
