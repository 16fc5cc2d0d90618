-- What a call has waited for, one entry for each time that its chat came to rest: front doors tell from it where what they
-- told of a turn had come to its end. A constant default rewrites nothing; replicas of the previous version leave it empty,
-- and then a turn is told as if nobody had been waited for.
alter table tool_calls add column waits text[] not null default '{}';
