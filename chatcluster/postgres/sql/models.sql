-- The queries of models.py. See queries.py for the form of this file.

-- fragment: provider
name, kind, base_url, enabled, sealed, key_hint, {moment key_set_at} as key_set_at, details

-- fragment: model
name, provider, provider_model, enabled, is_default, details

-- name: list_providers
select {provider} from providers order by name

-- name: list_models
select {model} from models order by name

-- name: lock_provider
select {provider} from providers where name = $1 for update

-- name: lock_model
select {model} from models where name = $1 for update

-- name: insert_provider
insert into providers (name, kind, base_url, enabled, sealed, key_hint, key_set_at, details)
values ($1, $2, $3, $4, $5::bytea, $6, case when $5::bytea is not null then statement_timestamp() end, $7::text::json)
on conflict (name) do nothing
returning {provider}

-- name: update_provider
update providers set
    kind = $2, base_url = $3, enabled = $4,
    key_set_at = case
        when $5::bytea is null then null
        when sealed is distinct from $5 then statement_timestamp()
        else key_set_at
    end,
    sealed = $5, key_hint = $6, details = $7::text::json, updated_at = statement_timestamp()
where name = $1
returning {provider}

-- name: is_used
select exists (select from models where provider = $1)

-- name: delete_provider
delete from providers where name = $1

-- name: hold_provider
-- So that it is not removed before the model is there.
select true from providers where name = $1 for key share

-- name: insert_model
insert into models (name, provider, provider_model, enabled, is_default, details)
values ($1, $2, $3, $4, $5 or not exists (select from models where is_default), $6::text::json)
on conflict (name) do nothing
returning {model}

-- name: update_model
update models set
    provider = $2, provider_model = $3, enabled = $4, is_default = $5, details = $6::text::json,
    updated_at = statement_timestamp()
where name = $1
returning {model}

-- name: lock_models
-- One change of models at a time: which of them is the default concerns all.
select pg_advisory_xact_lock(7161676974)

-- name: clear_default
update models set is_default = false, updated_at = statement_timestamp() where is_default and name <> $1

-- name: delete_model
delete from models where name = $1 returning name
