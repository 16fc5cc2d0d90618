-- The queries of push.py. See queries.py for the form of this file.

-- fragment: subscription
push_subscriptions.id, push_subscriptions.user_id, push_subscriptions.token_id, push_subscriptions.endpoint,
push_subscriptions.p256dh, push_subscriptions.auth, {moment push_subscriptions.created_at} as created_at

-- name: subscribe
insert into push_subscriptions (id, user_id, token_id, endpoint, p256dh, auth) values ($1, $2, $3, $4, $5, $6)
on conflict (endpoint) do update set
    user_id = excluded.user_id,
    token_id = excluded.token_id,
    p256dh = excluded.p256dh,
    auth = excluded.auth,
    created_at = excluded.created_at
returning {subscription}

-- name: keep_newest
delete from push_subscriptions where id in (
    select id from push_subscriptions where user_id = $1 order by created_at desc, id offset $2
)

-- name: unsubscribe
with gone as (
    delete from push_subscriptions where user_id = $1 and id = $2 returning id
),
notices as (
    delete from push_notices where subscription_id in (select id from gone)
)
select id from gone

-- name: forget
with gone as (
    delete from push_subscriptions where id = $1
)
delete from push_notices where subscription_id = $1

-- name: list_subscriptions
select {subscription} from push_subscriptions where user_id = $1
order by push_subscriptions.created_at, id

-- name: delete_late
delete from push_notices where id in (
    select id from push_notices where created_at < statement_timestamp() - $1 * interval '1 second'
    limit 100 for update skip locked
)

-- name: claim
-- By turns between users: however many one has, and however slow their push service is, another's is among the next.
-- A notice of a chat or of a subscription that is gone is nobody's to tell, and takes nobody's place; it goes with its
-- age.
with waiting as (
    select push_notices.id,
        row_number() over (
            partition by push_subscriptions.user_id order by push_notices.due_at, push_notices.id
        ) as turn
    from push_notices
        join push_subscriptions on push_subscriptions.id = push_notices.subscription_id
        join chats on chats.id = push_notices.chat_id and chats.owner_id = push_subscriptions.user_id
    where push_notices.due_at <= statement_timestamp()
),
due as (
    select push_notices.id from push_notices join waiting on waiting.id = push_notices.id
    where push_notices.due_at <= statement_timestamp()
    order by waiting.turn, push_notices.due_at limit $1 for update of push_notices skip locked
),
claimed as (
    update push_notices set attempts = least(attempts, 1000) + 1, due_at = statement_timestamp() + $2 * interval '1 second'
    from due where push_notices.id = due.id
    returning push_notices.*
)
select claimed.id as notice_id, claimed.chat_id, claimed.outcome, claimed.attempts, chats.title, {subscription}
from claimed
    join push_subscriptions on push_subscriptions.id = claimed.subscription_id
    join chats on chats.id = claimed.chat_id and chats.owner_id = push_subscriptions.user_id
order by claimed.id

-- name: delete_notice
delete from push_notices where id = $1

-- name: postpone
update push_notices set due_at = statement_timestamp() + $2 * interval '1 second' where id = $1
