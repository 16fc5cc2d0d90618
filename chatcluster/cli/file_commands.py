"""The commands for files. They speak to a cluster, as any client of its API does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from chatcluster.cli.connected import ask
from chatcluster.cli.flags import Commands, server_options
from chatcluster.client.client import Client
from chatcluster.client.tool_calls import Json

EXISTING = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.group(cls=Commands)
def files() -> None:
    """Your files: what was uploaded to send along with messages.

    \b
    chatcluster files upload plan.pdf
    chatcluster chat --file plan.pdf "Sum it up."
    """


@files.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def list_files(*, as_json: bool, **server: Any) -> None:
    """List your files, newest first."""
    from chatcluster.cli.listings import show_files

    show_files(ask(server, Client, _all_files), as_json=as_json)


async def _all_files(client: Client) -> list[Json]:
    found: list[Json] = []
    while True:
        page = await client.files(limit=100, **({"after": found[-1]["id"]} if found else {}))
        found += page["files"]
        if not page["has_more"]:
            return found


@files.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=EXISTING)
@server_options
def upload(*, paths: tuple[Path, ...], **server: Any) -> None:
    """Upload files, and print their IDs. One that no chat has is removed after a day."""

    async def run(client: Client) -> None:
        for path in paths:
            click.echo((await client.upload(path))["id"])

    ask(server, Client, run)


@files.command()
@click.argument("file_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to; `-` is standard output.  [default: its name, here; nothing is overwritten]",
)
@server_options
def download(*, file_id: str, output: Path | None, **server: Any) -> None:
    """Download a file."""

    async def run(client: Client) -> tuple[str, bytes]:
        return (await client.file(file_id))["name"], await client.download(file_id)

    name, data = ask(server, Client, run)
    if output == Path("-"):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = output or Path(name)
    try:
        with open(path, "wb" if output else "xb") as file:
            file.write(data)
    except FileExistsError:
        raise click.ClickException(f"{path} is there already: name another one with --output") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None
    click.echo(str(path))


@files.command()
@click.argument("file_id", metavar="ID")
@server_options
def delete(*, file_id: str, **server: Any) -> None:
    """Delete a file. One that a chat refers to is refused."""
    ask(server, Client, lambda client: client.delete_file(file_id))
