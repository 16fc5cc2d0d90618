-- The queries of usage.py. See queries.py for the form of this file.

-- fragment: wanted
usage_events where at >= $1 and at < $2 and ($3::uuid is null or owner_id = $3)

-- name: total
select {bill} from {wanted}

-- name: by_day
select to_char(at at time zone 'UTC', 'YYYY-MM-DD') as key, {bill} as bill, null::text as name from {wanted}
group by key order by key limit $4

-- name: by_model
select model as key, {bill} as bill, null::text as name from {wanted}
group by key order by key limit $4

-- name: by_chat
select chat_id::text as key, {bill} as bill, (select title from chats where id = chat_id) as name from {wanted}
group by chat_id order by sum(cost_micros) desc nulls last, count(*) desc, key limit $4

-- name: by_family
-- Of what replicas of the previous version booked the chat says whose family it is of, as long as there is one.
select family::text as key, {bill} as bill, (select title from chats where id = family) as name
from (
    select usage_events.*, coalesce(root_id, (select root_id from chats where chats.id = chat_id), chat_id) as family
    from {wanted}
) as of_families
group by family order by sum(cost_micros) desc nulls last, count(*) desc, key limit $4

-- name: by_user
select owner_id::text as key, {bill} as bill, (select name from users where id = owner_id) as name from {wanted}
group by owner_id order by key limit $4
