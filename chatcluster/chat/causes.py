"""What led to a chat's status, or to its owner: a word that readers are told with the status.

It changes with the status, the owner or the archive only: what else happens to a chat leaves it as it is. A claim of a
chat that lost its owner keeps the word that says how, so that the new owner's status tells of a takeover. Pure.
"""

from __future__ import annotations

TURN = "turn"
"""A message is to be answered, or was."""
CLAIMED = "claim"
"""A replica took the chat up."""
TAKEN_OVER = "takeover"
"""The chat's replica died, or was taken for dead."""
DRAINED = "drain"
"""The chat's replica leaves, and gave it back."""
RELEASED = "release"
"""The chat's replica has no place for it."""
INTERRUPTED = "interrupt"
EDITED = "edit"
FAILED = "error"
ARCHIVED = "archive"
UNARCHIVED = "unarchive"
ACTION = "action"
"""Tool calls wait for a person, a client or an agent."""

HANDED_OVER = (TAKEN_OVER, DRAINED)
"""The next claim keeps these."""

_CAUSES = {
    "Interrupt": INTERRUPTED,
    "Send(interrupt)": INTERRUPTED,
    "Promote": INTERRUPTED,
    "Close": INTERRUPTED,
    "FinishInterruption": INTERRUPTED,
    "Edit": EDITED,
    "Fail": FAILED,
    "Archive": ARCHIVED,
    "Unarchive": UNARCHIVED,
    "CommitStep": ACTION,
    "AskAgain": ACTION,
    "AwaitSignIn": ACTION,
    "AskUser": ACTION,
}


def cause_of(event: str, *, runs: bool, stops: bool) -> str:
    """The cause of a change that this event made. ``runs``: a turn begins with it; ``stops``: one is interrupted."""
    if runs and event != "Edit":
        return TURN
    if stops and event == "Archive":
        return ARCHIVED
    return _CAUSES.get(event, TURN)
