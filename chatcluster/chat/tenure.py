"""What a change of its owner makes of a chat: the claim, and the end of an owner.

Neither is in the table, as neither changes the phase. Both are one statement for many chats on Postgres, so the rule
stands there as well (``claimed`` in ``claims.sql``, ``disown`` in ``registry.sql``); a contract holds them to this one.

A claim may also be a part of the very transaction that lets a chat run (``claimed_with``), where that began at rest.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from chatcluster.chat.causes import CLAIMED, HANDED_OVER, TAKEN_OVER
from chatcluster.chat.state import ChatState, Phase, Status
from chatcluster.parts import CONTENT_VERSION


def claimed(state: ChatState, worker_id: UUID) -> ChatState:
    """The chat in a new tenure. Work that is under way starts its next attempt with it, unless a retry is scheduled.

    The tenure counts as one that did not end in order until it does. Its epoch is above all that were given before: by
    a server as well that lost them with the chat's last versions (``timeline.py``), as no chat has more tenures than
    versions.
    """
    starts_attempt = state.status is Status.RUNNING and state.retry is None
    return msgspec.structs.replace(
        state,
        worker_id=worker_id,
        epoch=max(state.epoch, state.reset_version) + 1,
        snapshot_version=state.snapshot_version + 1,
        attempt=state.attempt + starts_attempt,
        takeovers=state.takeovers + 1,
        cause=state.cause if state.cause in HANDED_OVER else CLAIMED,
    )


def may_be_claimed_with(before: ChatState | None, after: ChatState) -> bool:
    """Whether the change, of a chat that rested, or of none, lets it run, and nothing else is to be known of it.

    One in an error may have lost an owner, which the claim would have to log."""
    rested = before is None or before.phase in (Phase.WAITING, Phase.REQUIRES_ACTION)
    runs = after.claimable and after.status is Status.RUNNING
    return rested and runs and after.takeovers == 0 and after.content_version <= CONTENT_VERSION


def claimed_with(state: ChatState, worker_id: UUID) -> ChatState:
    """``claimed`` within the transaction that lets the chat run, which has its snapshot version already."""
    return msgspec.structs.replace(claimed(state, worker_id), snapshot_version=state.snapshot_version)


def disowned(state: ChatState, cause: str = TAKEN_OVER) -> ChatState:
    """The chat without its owner, which is a change of the chat and so has a snapshot version of its own."""
    return msgspec.structs.replace(state, worker_id=None, snapshot_version=state.snapshot_version + 1, cause=cause)
