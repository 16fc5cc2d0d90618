"""What becomes of a chat whose history is summarised, and which of its summaries an edit leaves. Pure."""

from __future__ import annotations

from chatcluster.chat.commands import CommitSummary
from chatcluster.chat.draft import Draft
from chatcluster.chat.state import SUMMARIES_MAX
from chatcluster.errors import MessageSummarized


def commit(draft: Draft, command: CommitSummary) -> None:
    """The turn goes on behind the summary; if that is all that was asked for, the work is done."""
    draft.insert(*command.messages)
    version = draft.before.snapshot_version + 1
    draft.after.summaries = (*draft.after.summaries, version)[-SUMMARIES_MAX:]
    if draft.after.compacting:
        draft.answer_open_calls()
        draft.go_on_or_rest()
    else:
        draft.starts_attempt = True


def forget_behind(draft: Draft, revision: int) -> None:
    """A message of this revision is replaced, and what follows it is gone. A summary of that very transaction was
    before it."""
    draft.after.summaries = tuple(version for version in draft.after.summaries if version <= revision)


def require_none_behind(draft: Draft, revision: int) -> None:
    """A message of this revision is to go, and what follows it to stay. Raises ``MessageSummarized`` where a summary
    would still tell the model of it."""
    if any(version >= revision for version in draft.after.summaries):
        raise MessageSummarized("a summary of the history has this message in it; edit it, or start a new chat")
