"""How requests about workspaces and their templates are refused: the branch of ``errors.py`` that is theirs."""

from __future__ import annotations

from chatcluster.errors import Conflict, NotFound, UnavailableError


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


class WorkspaceFailed(UnavailableError):
    """A sandbox could not be built, started or stopped; the message says why."""
