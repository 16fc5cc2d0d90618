-- Browsers that are told when an answer is there. Without foreign keys: the end of a turn would wait for whoever holds the
-- row of a subscription. What is left behind goes with its age.
create table push_subscriptions (
    id uuid primary key,
    user_id uuid not null,
    token_id text not null,
    endpoint text not null unique check (length(endpoint) <= 2000),
    p256dh bytea not null,
    auth bytea not null,
    created_at timestamptz not null default statement_timestamp()
);

create index push_subscriptions_by_user on push_subscriptions (user_id, created_at);

create table push_notices (
    id bigint generated always as identity primary key,
    subscription_id uuid not null,
    chat_id uuid not null,
    outcome text not null,
    attempts integer not null default 0,
    due_at timestamptz not null default statement_timestamp(),
    created_at timestamptz not null default statement_timestamp()
);

create index push_notices_by_due on push_notices (due_at);
create index push_notices_by_subscription on push_notices (subscription_id);

-- In the transaction that ends the turn, whichever way it is written, and by replicas of the previous version as well. A
-- turn of somebody without a subscription costs one look into an index. The turns of agents are told to nobody.
create function note_turn_for_push() returns trigger language plpgsql as $$
declare
    owner uuid;
begin
    if not exists (select from push_subscriptions) then
        return null;
    end if;
    select owner_id into owner from chats where id = new.chat_id and parent_id is null;
    insert into push_notices (subscription_id, chat_id, outcome)
    select push_subscriptions.id, new.chat_id, new.outcome
    from push_subscriptions join tokens on tokens.id = push_subscriptions.token_id
    where push_subscriptions.user_id = owner
        and tokens.revoked_at is null and (tokens.expires_at is null or tokens.expires_at > statement_timestamp());
    return null;
end
$$;

create trigger note_turn_for_push after insert on turns
for each row when (new.outcome in ('finished', 'error')) execute function note_turn_for_push();
