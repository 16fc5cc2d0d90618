-- What a chat's stop means for its agents is an order, given by whoever stops it (chat/family.py). Replicas from before
-- there were agents stop chats as well while they still run, and give none: the orders that follow from the row alone
-- are written for them. Where the one who stops gives the same order nothing changes. What the row does not tell, a
-- stop of a chat with queued messages, stays theirs: an interrupting message looks alike, and stops no agent.
create function order_agents() returns trigger
    language plpgsql
as $$
begin
    insert into family_orders (chat_id, root_id, word)
    select agent.id, agent.root_id, case
        when new.archived or new.archiving then 'archive'
        when old.archived then 'unarchive'
        else 'close'
    end
    from chats as agent
    where agent.parent_id = new.id and agent.root_id = coalesce(new.root_id, new.id)
    on conflict (chat_id) do update set word = excluded.word where excluded.word <> 'close';
    return null;
end
$$;

create trigger order_agents after update on chats
for each row when (
    new.has_agents and (
        (new.archived or new.archiving) <> (old.archived or old.archiving)
        or (old.status = 'requires_action' and new.status = 'waiting')
        or (old.status = 'running' and new.status = 'interrupting' and new.queue_length = 0)
        or (old.cause <> 'edit' and new.cause = 'edit')
    )
)
execute function order_agents();
