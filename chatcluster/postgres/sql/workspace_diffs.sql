-- The queries of workspace_diffs.py. See queries.py for the form of this file.

-- name: put_diff
-- One that is what was known writes nothing. Of two that look at the same time the later one's word stands.
insert into workspace_diffs (chat_id, workspace_id, owner_id, digest, status, diff)
select workspaces.chat_id, workspaces.id, workspaces.owner_id, $2, $3::text::json, $4::text::json
from workspaces
where workspaces.id = $1 and workspaces.state <> 'deleted' and not workspaces.replaced
on conflict (chat_id) do update set
    workspace_id = excluded.workspace_id,
    digest = excluded.digest,
    status = excluded.status,
    diff = excluded.diff,
    version = workspace_diffs.version + 1,
    updated_at = statement_timestamp()
where (workspace_diffs.workspace_id, workspace_diffs.digest) <> (excluded.workspace_id, excluded.digest)
returning version, {moment workspace_diffs.updated_at} as updated_at

-- name: select_diff
select diff::text as diff, version, {moment updated_at} as updated_at from workspace_diffs where chat_id = $1

-- name: select_status
select status::text as status, version, {moment updated_at} as updated_at from workspace_diffs where chat_id = $1

-- name: list_statuses
select chat_id, status::text as status, version, {moment updated_at} as updated_at
from workspace_diffs
where owner_id = $1
order by workspace_diffs.updated_at desc
limit $2
