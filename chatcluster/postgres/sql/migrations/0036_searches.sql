-- How often a provider searched the web for an attempt. Null: not at all, or booked by a replica of the previous version.
alter table usage_events add column searches bigint;
