"""What a provider is told of a workspace, from its row. Pure."""

from __future__ import annotations

from chatcluster.ports.workspace import WorkspaceLimits, WorkspaceSpec
from chatcluster.ports.workspaces import WorkspaceRow
from chatcluster.workspace_templates import Value

HOST_BASE = "host"


def spec_of(row: WorkspaceRow, cpus: float = 0.0) -> WorkspaceSpec:
    """``cpus``: what a workspace may have of the host's, 0 is all."""
    settings, limits = row.made_of.settings, row.made_of.settings.limits
    names = settings.environment_names
    return WorkspaceSpec(
        workspace_id=str(row.id),
        owner_id=str(row.owner_id),
        limits=WorkspaceLimits(
            memory_bytes=limits.memory_bytes_max,
            processes_max=limits.processes_max,
            disk_bytes=limits.disk_bytes_max,
            cpus=cpus,
        ),
        environment={names[name]: _words(value) for name, value in row.made_of.parameters.items() if name in names},
        allowed_hosts=settings.network,
        base="" if settings.base == HOST_BASE else settings.base,
        desktop=settings.desktop,
    )


def _words(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
