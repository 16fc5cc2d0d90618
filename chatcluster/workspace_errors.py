"""How a workspace fails its caller: the branch of ``errors.py`` that is its."""

from __future__ import annotations

from chatcluster.errors import ChatclusterError, Fenced, UnavailableError


class WorkspaceUnreachable(UnavailableError):
    """The agent of a workspace takes no connection, or has been silent for too long.

    Whether the request took effect is unknown. Make it again, with the same ID: that is carried out once.
    """


class StaleEpoch(Fenced):
    """The agent has seen a later tenure of the chat, and did nothing."""


class WorkspaceRefused(ChatclusterError):
    """The agent cannot do that, and did nothing; ``code`` is one of ``workspace_wire.Code``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class CallConflict(WorkspaceRefused):
    """There is another call with this ID."""


class UnknownCall(WorkspaceRefused):
    """No call with this ID was ever put, or buried. It may be put, or buried by a cancel."""


class SandboxMissing(ChatclusterError):
    """This machine has not what a sandbox needs; the message is one line that says what to install or to allow."""


class SandboxFailed(ChatclusterError):
    """A sandbox did not start, or its agent did not answer in time; the message has what it said."""
