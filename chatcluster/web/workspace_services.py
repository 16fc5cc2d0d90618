"""What routes about workspaces stand on; a part of ``Services``."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports.workspaces import WorkspaceHosts, Workspaces


@dataclass(frozen=True, kw_only=True)
class WorkspaceServices:
    rows: Workspaces
    hosts: WorkspaceHosts
