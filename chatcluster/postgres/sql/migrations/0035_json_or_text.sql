-- JSON that is kept as text, as JSON; what is none is a string. So a value of one chat that is damaged, or of another
-- program, fails where that chat is decoded, and not the statement that reads it.
create function json_or_text(value text) returns json language plpgsql immutable parallel safe as $$
begin
    return value::json;
exception when others then
    return to_json(value);
end
$$;
