"""The commands that have modules of their own."""

from __future__ import annotations

from chatcluster.cli.chat_commands import chat, chats, compact, fork, history
from chatcluster.cli.database_commands import cluster, migrate, token
from chatcluster.cli.file_commands import files
from chatcluster.cli.mcp_commands import mcp
from chatcluster.cli.model_commands import model, provider
from chatcluster.cli.permission_commands import permissions
from chatcluster.cli.secret_commands import secrets
from chatcluster.cli.usage_commands import limits, usage
from chatcluster.cli.workspace_commands import template, workspace

GROUPS = (
    migrate,
    cluster,
    token,
    secrets,
    provider,
    model,
    mcp,
    permissions,
    usage,
    limits,
    template,
    workspace,
    files,
    chat,
    chats,
    history,
    compact,
    fork,
)
