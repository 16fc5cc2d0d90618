"""The commands that work on the database itself: they need no running replica, and no token."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from chatcluster.cli.database import database_settings
from chatcluster.cli.flags import DATABASE, Commands, Number, data_dir_option, settings_flags

SCOPE_HELP = "What it is good for: chats, admin, openai, ai-sdk, ag-ui or mcp; may be repeated.  [default: everything]"


@click.command()
@data_dir_option
@settings_flags(*DATABASE)
def migrate(*, data_dir: Path, **flags: Any) -> None:
    """Bring the database's schema up to date. Safe to run at any time, from several places at once."""
    from chatcluster.local.provisioning import migrate_schema

    settings = database_settings(data_dir, flags)
    for migration in trio.run(partial(migrate_schema, settings, say=partial(click.echo, err=True))):
        click.echo(f"applied {migration.version:04} {migration.name}")
    click.echo("The schema is up to date.")


@click.group(cls=Commands)
def cluster() -> None:
    """Commands for a cluster as a whole."""


@cluster.command("new-id")
@data_dir_option
@settings_flags(*DATABASE)
def cluster_new_id(*, data_dir: Path, **flags: Any) -> None:
    """Give a clone of a database an ID of its own.

    It is for one that was made from a snapshot of the disk; restart its replicas then.

    Two clusters with one ID on one Redis server would show each other's parts. A copy by pg_dump needs no new one.
    """
    from chatcluster.local.provisioning import new_cluster_id

    click.echo(trio.run(new_cluster_id, database_settings(data_dir, flags)))


@click.group(cls=Commands)
def token() -> None:
    """Create, list and revoke API tokens."""


@token.command("create")
@click.option("--user", default="admin", show_default=True, help="Its user, who is created if need be")
@click.option("--admin", is_flag=True, help="If the user is new, make it an administrator")
@click.option("--name", default="", help="What it is for")
@click.option("--scope", "scopes", multiple=True, help=SCOPE_HELP)
@click.option(
    "--expires-in-days",
    type=Number(min=0, min_open=True, max=36_500),
    help="Days until it expires.  [default: never]",
)
@data_dir_option
@settings_flags(*DATABASE)
def token_create(
    *,
    user: str,
    admin: bool,
    name: str,
    scopes: tuple[str, ...],
    expires_in_days: float | None,
    data_dir: Path,
    **flags: Any,
) -> None:
    """Create a token and print it, once: only a digest is stored.

    \b
    chatcluster token create --user alice --name laptop
    chatcluster token create --user alice --name editor --scope mcp --expires-in-days 30
    """
    from chatcluster.local.provisioning import create_token

    settings = database_settings(data_dir, flags)
    days = None if expires_in_days is None else timedelta(days=expires_in_days)
    make = partial(create_token, settings, user=user, admin=admin, name=name, scopes=scopes or None, lasting=days)
    click.echo(trio.run(make))


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@data_dir_option
@settings_flags(*DATABASE)
def token_list(*, as_json: bool, data_dir: Path, **flags: Any) -> None:
    """List all tokens, without their secrets."""
    from chatcluster.cli.listings import show_tokens
    from chatcluster.local.provisioning import list_tokens

    show_tokens(trio.run(list_tokens, database_settings(data_dir, flags)), as_json=as_json)


@token.command("revoke")
@click.argument("token_id")
@data_dir_option
@settings_flags(*DATABASE)
def token_revoke(*, token_id: str, data_dir: Path, **flags: Any) -> None:
    """Revoke a token by its ID.

    The ID is what stands between the underscores of ccl_ID_…
    """
    from chatcluster.local.provisioning import revoke_token

    settings = database_settings(data_dir, flags)
    if not (token_id.isascii() and token_id.isalnum() and trio.run(revoke_token, settings, token_id)):
        raise click.ClickException(f"there is no token {token_id}")
    click.echo(f"revoked {token_id}")
