-- What tells this database from every other: the names in Redis are made of it, so that clusters share a Redis server
-- without knowing of each other. A copy of the rows takes this one along; identity.py tells why that is no harm.
create table cluster_identity (
    singleton boolean primary key default true,
    id uuid not null default gen_random_uuid(),

    constraint one_row check (singleton)
);

insert into cluster_identity default values;

-- An owner that goes on above a part stream that is ahead lets readers start anew, and rewrites no history for it: so
-- reset_version may be above history_version. Every row there is keeps the narrower rule, so none has to be looked at.
alter table chats
    drop constraint versions_are_of_the_past,
    add constraint versions_are_of_the_past check (
        history_version between 0 and snapshot_version
        and queue_version between 0 and snapshot_version
        and reset_version between 0 and snapshot_version
    ) not valid;
