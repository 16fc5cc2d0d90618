-- What has changed in the workspaces of chats, as it was found last. A new table, which goes with the workspace.
create table workspace_diffs (
    chat_id uuid primary key,
    workspace_id uuid not null references workspaces (id) on delete cascade,
    owner_id uuid not null,
    digest text not null,
    status json not null,
    diff json not null,
    version bigint not null default 1,
    updated_at timestamptz not null default statement_timestamp()
) with (fillfactor = 80);

create index workspace_diffs_by_owner on workspace_diffs (owner_id, updated_at desc);
create index workspace_diffs_by_workspace on workspace_diffs (workspace_id);
