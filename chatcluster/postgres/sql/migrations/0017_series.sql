-- What the cluster did, minute by minute, for charts: one row for a minute, to which every replica adds. A replica of the
-- previous version adds nothing.
create table minutes (
    at timestamptz primary key,
    turns bigint not null,
    failed bigint not null,
    interrupted bigint not null,
    output_tokens bigint not null,
    first_tokens bigint[] not null
);
