"""How workspaces fail their callers: the branch of ``errors.py`` that is theirs.

What is asked of rows is refused like any request (``Conflict``, ``NotFound``); what is asked of an agent, or of a
sandbox, fails in ways of its own.
"""

from __future__ import annotations

from chatcluster.errors import ChatclusterError, Conflict, Fenced, NotFound, UnavailableError

# --- rows: templates, hosts, workspaces -------------------------------------------------------


class TemplateNotFound(NotFound):
    code = "template_not_found"


class WorkspaceNotFound(NotFound):
    code = "workspace_not_found"


class TemplateChanged(Conflict):
    """Somebody else changed the template at the same time. Read it again."""

    code = "template_changed"


class TemplatesFull(Conflict):
    code = "too_many_templates"


class WorkspacesFull(Conflict):
    """The user has as many workspaces as a user may have. Delete one first."""

    code = "too_many_workspaces"


class NoWorkspaceHost(Conflict):
    """No host is there that could run a workspace; the message says what the hosts say of themselves."""

    code = "no_workspace_host"


class WorkspaceHostAway(Conflict):
    """The machine that has the workspace's files does not answer. Start it again when the machine is back."""

    code = "workspace_host_away"


class WorkspaceNotRunning(Conflict):
    """The workspace has no agent to speak to now. Start it first."""

    code = "workspace_not_running"


# --- agents and sandboxes ---------------------------------------------------------------------


class WorkspaceUnreachable(UnavailableError):
    """The agent of a workspace takes no connection, or has been silent for too long.

    Whether the request took effect is unknown. Make it again, with the same ID: that is carried out once.
    """


class WorkspaceGone(WorkspaceUnreachable):
    """The workspace does not run: its host says so, or has none. To ask again is of no use before it is started."""


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


class EngineUnreachable(SandboxFailed):
    """The engine that makes containers does not answer. Whether it did what was asked is unknown; ask again."""


class EngineRefused(SandboxFailed):
    """The engine that makes containers says no; ``status`` is that of its answer, and the message what it said."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


# --- what both implementations of the rows say --------------------------------------------------


def none_of_template(name: str) -> TemplateNotFound:
    return TemplateNotFound("there is no such template", template=name[:80])


def templates_full(templates_max: int) -> TemplatesFull:
    return TemplatesFull(f"there are {templates_max} templates already; remove one")


def no_workspace() -> WorkspaceNotFound:
    return WorkspaceNotFound("there is no such workspace")


def user_is_full(per_user_max: int) -> WorkspacesFull:
    return WorkspacesFull(
        f"you have {per_user_max} workspaces, as many as one may have; delete one", limit=per_user_max
    )


def no_host(problems: str) -> NoWorkspaceHost:
    said = problems or "no `chatcluster workspace-host` is running"
    return NoWorkspaceHost(f"no host can run a workspace now: {said}")


def host_away() -> WorkspaceHostAway:
    return WorkspaceHostAway(
        "the machine that has this workspace's files does not answer: start it when the machine is back, "
        "or create another workspace"
    )


def still_stopping() -> WorkspaceNotRunning:
    return WorkspaceNotRunning("the workspace is just stopping; start it again in a moment")
