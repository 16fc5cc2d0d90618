"""The commands for what somebody allowed to tools for good: which that is, and how it is taken back."""

from __future__ import annotations

from typing import Any

import click

from chatcluster.cli.connected import ask
from chatcluster.cli.flags import Commands, server_options
from chatcluster.client.client import Client


@click.group(cls=Commands)
def permissions() -> None:
    """Tools that you are not asked about again."""


@permissions.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def list_permissions(*, as_json: bool, **server: Any) -> None:
    """List what you allowed to tools.

    In one chat and by its agents, or in all of your chats.
    """
    from chatcluster.cli.listings import show_permissions

    show_permissions(ask(server, Client, lambda client: client.tool_permissions()), as_json=as_json)


@permissions.command("remove")
@click.argument("permission_id", metavar="ID")
@server_options
def remove(*, permission_id: str, **server: Any) -> None:
    """Be asked again, also about calls that have not begun."""
    ask(server, Client, lambda client: client.delete_tool_permission(permission_id))
    click.echo(f"removed {permission_id}")
