-- Where a token lets its user in; null: everywhere, as those do that were made before. Replicas of the previous version
-- do not look at it: a token with scopes is made for those that are to come.
alter table tokens add column scopes text[];
