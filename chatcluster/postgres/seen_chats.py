"""A user's command on a chat that was looked at and not locked: two statements, and no transaction around them.

The row decides: what is written is written only if the row still is what was seen. So this carries out what is plain, a
message to a chat at rest before all. What is refused, queued or raced for, and what takes a look at more than the row,
goes the long way: only a row that is locked refuses.
"""

from __future__ import annotations

from typing import NamedTuple

from chatcluster.chat import Interrupt, Send, UserCommand, decide
from chatcluster.errors import CallerError, Unreadable
from chatcluster.ports import Outcome
from chatcluster.postgres import Connection, Row
from chatcluster.postgres.decision_writer import is_plain_of_user, write_seen
from chatcluster.postgres.looked_up import has_known_room
from chatcluster.postgres.rows import chat_of, state_of

SEEN_COMMANDS = (Send, Interrupt)
"""Those that may be decided on the row alone, and are often: no facts besides it are looked up for them."""


class Applied(NamedTuple):
    """What a user's command did, and the version of the history that it found; 0 for an answer that is repeated."""

    before: int
    outcome: Outcome


async def apply_seen(connection: Connection, row: Row | None, command: UserCommand, bytes_max: int) -> Applied | None:
    """A plain transition on a chat that still is the row that was seen; None where it takes its lock to say more."""
    if row is None or row["queue_length"] or row["open_calls"] or not has_known_room(row, command, bytes_max):
        return None
    try:
        seen = chat_of(row)
        before = state_of(seen, (), ())
        decision = decide(before, command)
    except (CallerError, Unreadable):
        return None
    outcome = await write_seen(connection, seen, decision, before) if is_plain_of_user(decision) else None
    return None if outcome is None else Applied(seen.history_version, outcome)
