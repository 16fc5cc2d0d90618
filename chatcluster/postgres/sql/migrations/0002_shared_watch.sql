-- Watchers wait for a session lock side by side. With exclusive locks they stood in a queue, and one whose process froze
-- was granted the lock in its turn and kept it from those behind it, who could be the ones to notice the death.
-- await_session_lock stays for replicas of the previous version.

-- Waits until no holder has the session lock (true) or for half a minute (false); see await_session_lock.
create function await_session_lock_shared(lock_key bigint) returns boolean
    language plpgsql
    set lock_timeout = '30s'
as $$
begin
    perform pg_advisory_lock_shared(lock_key);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;
