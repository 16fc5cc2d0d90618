-- The rows that were there before 0033 are looked at while others read and write the table.
alter table usage_hours validate constraint sums_are_not_negative;
