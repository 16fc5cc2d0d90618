"""What a change of its owner makes of a chat: the claim, and the end of an owner.

Neither is in the table, as neither changes the phase. Both are one statement for many chats on Postgres, so the rule
stands there as well (``claimed`` in ``claims.sql``, ``disown`` in ``registry.sql``); a contract holds them to this one.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from chatcluster.chat.causes import CLAIMED, HANDED_OVER, TAKEN_OVER
from chatcluster.chat.state import ChatState, Status


def claimed(state: ChatState, worker_id: UUID) -> ChatState:
    """The chat in a new tenure. Work that is under way starts its next attempt with it, unless a retry is scheduled.

    The tenure counts as one that did not end in order until it does.
    """
    starts_attempt = state.status is Status.RUNNING and state.retry is None
    return msgspec.structs.replace(
        state,
        worker_id=worker_id,
        epoch=state.epoch + 1,
        snapshot_version=state.snapshot_version + 1,
        attempt=state.attempt + starts_attempt,
        takeovers=state.takeovers + 1,
        cause=state.cause if state.cause in HANDED_OVER else CLAIMED,
    )


def disowned(state: ChatState, cause: str = TAKEN_OVER) -> ChatState:
    """The chat without its owner, which is a change of the chat and so has a snapshot version of its own."""
    return msgspec.structs.replace(state, worker_id=None, snapshot_version=state.snapshot_version + 1, cause=cause)
