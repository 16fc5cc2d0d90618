"""What a failover makes of a chat: the first write on another timeline leaps.

An asynchronous standby that takes over may have lost the last transactions of its primary. It would give their versions
out again, and a reader that was told of a lost one could not tell the two apart. Each server that takes over writes its
WAL on a new **timeline**, so a chat knows on which it was written last. A write that finds another one first leaves
behind all versions that may be lost, and lets readers start anew. It leaps once for each timeline in between, as the
leap of one server may be lost with the next failover.

A server that cannot say on which timeline it writes (None) leaves the chat as it is. So does one whose timeline has the
number of the lost one: two standbys that knew nothing of each other, say. Then ``ports.Version.precedes`` tells what is
lost, for as long as the chat has not come that far again.

A claim and a burial on Postgres are one statement each, so the rule stands there as well (``timeline.sql``); a contract
holds them to this one.
"""

from __future__ import annotations

import msgspec

from chatcluster.chat.state import ChatState

VERSIONS_FORGOTTEN_MAX = 10_000
"""The most versions of one chat that a failover may lose so that none of them is given out again."""

VERSIONS_RAISED = 1000
"""What a chat whose stream was ahead of it goes on by: little beside the above, so that no failover that loses this
gives its versions out again."""


def continued(state: ChatState, timeline: int | None) -> ChatState:
    """The chat as a write on ``timeline`` takes it up."""
    if timeline is None or timeline == state.timeline:
        return state
    if state.timeline is None:
        return msgspec.structs.replace(state, timeline=timeline)
    return leapt(state, timeline)


def leapt(state: ChatState, timeline: int | None) -> ChatState:
    """The chat above every version that may be forgotten. History counts as rewritten, and the queue as changed."""
    known = state.timeline
    if timeline is None or known is None or timeline == known:
        version = state.snapshot_version + VERSIONS_RAISED
    else:
        version = state.snapshot_version + max(1, timeline - max(0, known)) * VERSIONS_FORGOTTEN_MAX
    return msgspec.structs.replace(
        state,
        snapshot_version=version,
        reset_version=version,
        queue_version=version,
        timeline=known if timeline is None else timeline,
    )
