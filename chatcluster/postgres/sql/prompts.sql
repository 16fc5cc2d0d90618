-- The queries of prompts.py. See queries.py for the form of this file.

-- name: select_prompt
select text from prompts where owner_id = $1

-- name: put_prompt
insert into prompts (owner_id, text) values ($1, $2)
on conflict (owner_id) do update set text = $2, updated_at = statement_timestamp()

-- name: select_own_prompt
select chat_prompts.text from chat_prompts where chat_id = $1

-- name: put_own_prompt
-- Nothing for a chat that is gone. One that is being deleted is waited for.
insert into chat_prompts (chat_id, text) select id, $2 from chats where id = $1 for key share
on conflict (chat_id) do update set text = $2
returning true
