-- What tells this database from every other: the names in Redis are made of it, so that clusters share a Redis server
-- without knowing of each other. A copy of the rows takes this one along; identity.py tells why that is no harm.
create table cluster_identity (
    singleton boolean primary key default true,
    id uuid not null default gen_random_uuid(),

    constraint one_row check (singleton)
);

insert into cluster_identity default values;
