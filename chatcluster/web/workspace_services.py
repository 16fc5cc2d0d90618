"""What routes about workspaces stand on; a part of ``Services``."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports.workspaces import WorkspaceHosts, Workspaces
from chatcluster.workspace_changes import Directory, WorkspaceChanges
from chatcluster.workspace_screens import WorkspaceScreens


@dataclass(frozen=True, kw_only=True)
class WorkspaceServices:
    rows: Workspaces
    hosts: WorkspaceHosts
    directory: Directory
    changes: WorkspaceChanges
    screens: WorkspaceScreens
