-- What the server of a tool asks the user in the middle of a call: the questions and the answers as JSON, and what the
-- server goes on from, which is its own. Columns without a default rewrite nothing. The wider check holds for every row
-- there is; replicas of the previous version write what it allows, and leave chats alone whose calls have the new state.
alter table tool_calls
    add column questions text,
    add column answers text,
    add column resume text,
    drop constraint tool_calls_state_check,
    add constraint tool_calls_state_check check (
        state in ('pending', 'approval', 'client', 'agents', 'sign_in', 'question', 'started', 'done')
    ) not valid;
