-- Agents: chats that belong to another one. Columns with a constant default, or none, rewrite nothing. Without a foreign
-- key: to insert an agent would wait for whoever holds the row of its parent. A replica of the previous version leaves
-- what is here as it is, and answers a call that waits for an agent at its deadline.
alter table chats
    add column parent_id uuid,
    add column root_id uuid,
    add column depth integer not null default 0 check (depth >= 0),
    add column has_agents boolean not null default false,
    add column agents boolean,
    add column waits_for_agents boolean not null default false;

create index chats_by_root on chats (root_id, created_at) where root_id is not null;

-- The agent whose rest a call waits for.
alter table tool_calls add column agent_id uuid;

create index tool_calls_by_agent on tool_calls (agent_id) where state = 'agents';

-- What a chat's transition means for its agents, and has yet to be done: see chat/family.py. Without a foreign key here
-- as well: whoever gives an order holds the row of another chat.
create table family_orders (
    chat_id uuid primary key,
    root_id uuid not null,
    word text not null
);

create index family_orders_by_root on family_orders (root_id);
