"""The groups of commands that have a module of their own."""

from __future__ import annotations

from chatcluster.cli.mcp_commands import mcp
from chatcluster.cli.secret_commands import secrets

GROUPS = (mcp, secrets)
