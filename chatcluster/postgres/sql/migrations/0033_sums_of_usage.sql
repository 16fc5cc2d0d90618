-- Sums of what was spent are never below zero. New rows are held to it from here on, without a look at those that are
-- there, so the table is locked for a moment alone; the next migration looks at them.
alter table usage_hours
    add constraint sums_are_not_negative check (cost_micros >= 0 and tokens >= 0) not valid;
