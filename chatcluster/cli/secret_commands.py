"""The commands for keys: for the secrets in the database, and for push services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import trio

from chatcluster.cli import exits
from chatcluster.cli.database import database_settings
from chatcluster.cli.flags import DATABASE, Commands, data_dir_option, settings_flags


@click.group(cls=Commands)
def secrets() -> None:
    """Keys: for stored secrets, and for push."""


@secrets.command("new-key")
def new_key() -> None:
    """Print a new key for CHATCLUSTER_ENCRYPTION_KEYS. Keep it safe: without it the secrets are lost."""
    from chatcluster.secrets import new_key as make

    click.echo(make())


@secrets.command("new-push-key")
def new_push_key() -> None:
    """Print a new key for CHATCLUSTER_PUSH_KEY. With another key every browser has to subscribe again."""
    from chatcluster.push_encryption import new_push_key as make

    click.echo(make())


@secrets.command("rotate")
@data_dir_option
@settings_flags(*DATABASE, "encryption_keys")
def rotate(*, data_dir: Path, **flags: Any) -> None:
    """Encrypt every secret anew with the first key. Safe while replicas run, and to be repeated.

    First put a new key in front of the others, on all replicas, and restart them; then rotate; then drop the old key.

    \b
    export CHATCLUSTER_ENCRYPTION_KEYS="$(chatcluster secrets new-key),$OLD_KEY"
    chatcluster secrets rotate
    """
    from chatcluster.local.rotation import rotate_secrets

    rotated = trio.run(rotate_secrets, database_settings(data_dir, flags))
    click.echo(f"{rotated.resealed} secrets were encrypted anew.")
    if rotated.left:
        text = (
            f"{rotated.left} could not be: their key is not in CHATCLUSTER_ENCRYPTION_KEYS, or somebody held their rows"
        )
        click.echo(text, err=True)
        raise click.exceptions.Exit(exits.FAILED)
