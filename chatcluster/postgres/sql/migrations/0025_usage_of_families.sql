-- The chat at the top of the family that an attempt was made in, null where its chat is nobody's agent, and in rows of
-- replicas of the previous version, of which the chat says it.
alter table usage_events add column root_id uuid;

-- Whether a try at a title is under way, so that one whose end nobody told is known as lost.
alter table titles_wanted add column under_way boolean not null default false;
