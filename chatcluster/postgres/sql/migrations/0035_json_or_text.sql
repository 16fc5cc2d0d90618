-- JSON that is kept as text, as JSON; what is none is a string. So a value of one chat that is damaged, or of another
-- program, fails where that chat is decoded, and not the statement that reads it. The block is a subtransaction, which
-- Postgres before 17 begins in no statement that has a parallel plan.
create function json_or_text(value text) returns json language plpgsql immutable strict parallel unsafe as $$
begin
    return value::json;
exception when others then
    return to_json(value);
end
$$;
