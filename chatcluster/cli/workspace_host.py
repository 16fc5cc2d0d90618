"""The command ``workspace-host``: what it is told by flags, and how it ends."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import click
import trio

from chatcluster.cli.flags import ready_fd_option, settings_flags
from chatcluster.config import from_environment, read_section
from chatcluster.setting_fields import settings_of
from chatcluster.workspaces.host.settings import HostSettings

OWN = tuple(item.name for item in settings_of(HostSettings))
SHARED = (
    "database_url",
    "database_pool_size",
    "statement_timeout_seconds",
    "encryption_keys",
    "heartbeat_seconds",
    "lease_ttl_seconds",
    "lease_margin_seconds",
    "log_level",
    "log_format",
)
"""Settings that it has in common with a replica."""


@click.command("workspace-host")
@settings_flags(*OWN, of=settings_of(HostSettings))
@settings_flags(*SHARED)
@ready_fd_option
def workspace_host(*, ready_fd: int | None, **flags: Any) -> None:
    """Run a host of workspaces on this machine.

    Workspaces are the places where chats run programs.

    One for each machine, beside the replicas. SIGTERM stops its workspaces, which keep their files.

    \b
    export CHATCLUSTER_DATABASE_URL=postgresql://user:password@db/chatcluster
    export CHATCLUSTER_ENCRYPTION_KEYS=...   (those of the replicas)
    chatcluster workspace-host --workspaces-dir /var/lib/chatcluster/workspaces --workspaces-host 10.0.0.5
    """
    from chatcluster.workspace_host import serve_workspaces

    options = read_section(HostSettings, os.environ, {name: flags.pop(name) for name in OWN})
    settings = from_environment(os.environ, **flags)
    trio.run(partial(serve_workspaces, settings, options, ready_fd=ready_fd))
