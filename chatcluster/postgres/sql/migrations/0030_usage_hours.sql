-- What each user spent in each hour, so that a limit need not sum up a month of attempts for each message. Attempts are
-- booked in usage_events alone, as before, where no two wait for each other; one replica at a time adds those up to some
-- moment to these rows, and moves that moment on. What came later is summed up when it is asked for. Replicas of the
-- previous version write and read usage_events alone.
create table usage_hours (
    owner_id uuid not null,
    hour timestamptz not null,
    cost_micros bigint not null,
    tokens bigint not null,

    primary key (owner_id, hour)
);

create index usage_hours_by_age on usage_hours (hour);

-- The one moment: attempts until then are in usage_hours. No limit asks for more than a month.
create table usage_added_up (
    is_only boolean primary key default true check (is_only),
    until timestamptz not null
);

insert into usage_added_up (until) values (statement_timestamp() - interval '32 days');
