"""The commands for workspaces and their templates. They speak to a cluster, as any client does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import trio

from chatcluster.cli.connected import ask
from chatcluster.cli.flags import Commands, server_options
from chatcluster.client.workspaces import WorkspaceClient
from chatcluster.workspace_templates import parse_template

FILE_CHARACTERS_MAX = 1 << 20
FOLLOW_SECONDS = 0.5
REST_SECONDS_MAX = 1500.0
"""Longer than a build and a start may take together."""
AT_REST = ("running", "stopped", "failed", "lost")
TOML = click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True)


@click.group(cls=Commands)
def template() -> None:
    """Templates: what workspaces are made of."""


@template.command("add")
@click.argument("path", metavar="TEMPLATE.TOML", type=TOML)
@server_options
def template_add(*, path: Path, **options: Any) -> None:
    """Make a template, or change all of it.

    The file describes it; `-` is standard input.

    \b
    name = "python"
    description = "Python, and what tests need"
    startup = "python3 --version"
    [limits]
    memory_bytes_max = 1073741824
    """
    name, settings = parse_template(_text(path))
    put = ask(options, WorkspaceClient, lambda client: client.put_template(name, **msgspec.to_builtins(settings)))
    click.echo(f"{put['name']}: revision {put['revision']}")


@template.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def template_list(*, as_json: bool, **options: Any) -> None:
    """List the templates that are offered."""
    from chatcluster.cli.listings import show_templates

    show_templates(ask(options, WorkspaceClient, lambda client: client.templates()), as_json=as_json)


@template.command("show")
@click.argument("name")
@server_options
def template_show(*, name: str, **options: Any) -> None:
    """Print all of a template, as JSON. Needs an administrator's token."""
    click.echo(
        msgspec.json.format(msgspec.json.encode(ask(options, WorkspaceClient, lambda client: client.template(name))))
    )


@template.command("remove")
@click.argument("name")
@server_options
def template_remove(*, name: str, **options: Any) -> None:
    """Remove a template. Workspaces that were made of it stay."""
    ask(options, WorkspaceClient, lambda client: client.remove_template(name))
    click.echo(f"removed {name}")


@click.group(cls=Commands)
def workspace() -> None:
    """Workspaces: where chats run programs."""


@workspace.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def workspace_list(*, as_json: bool, **options: Any) -> None:
    """List your workspaces, newest first."""
    from chatcluster.cli.listings import show_workspaces

    show_workspaces(ask(options, WorkspaceClient, lambda client: client.workspaces()), as_json=as_json)


@workspace.command("create")
@click.argument("chat_id", metavar="CHAT")
@click.argument("template_name", metavar="TEMPLATE")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="May be repeated; VALUE is JSON")
@server_options
def workspace_create(*, chat_id: str, template_name: str, parameters: tuple[str, ...], **options: Any) -> None:
    """Make a workspace for a chat, and wait until it runs."""
    values = dict(map(_parameter, parameters))

    async def create(client: WorkspaceClient) -> tuple[dict[str, Any], bool]:
        asked = await client.create_workspace(chat_id, template_name, parameters=values)
        return await _at_rest(client, asked["workspace"]["id"]), asked["changed"]

    found, is_new = ask(options, WorkspaceClient, create)
    if not is_new:
        click.echo(f"the chat has a workspace already, of the template {found['template']}: {found['id']}", err=True)
    _say_state(found)


@workspace.command("show")
@click.argument("workspace_id", metavar="ID")
@server_options
def workspace_show(*, workspace_id: str, **options: Any) -> None:
    """Print a workspace and its state, as JSON."""
    found = ask(options, WorkspaceClient, lambda client: client.workspace(workspace_id))
    click.echo(msgspec.json.format(msgspec.json.encode(found)))


@workspace.command("start")
@click.argument("workspace_id", metavar="ID")
@server_options
def workspace_start(*, workspace_id: str, **options: Any) -> None:
    """Start a workspace, and wait until it runs. Exit code 1 if it does not."""

    async def start(client: WorkspaceClient) -> dict[str, Any]:
        await client.start_workspace(workspace_id)
        return await _at_rest(client, workspace_id)

    _say_state(ask(options, WorkspaceClient, start))


@workspace.command("stop")
@click.argument("workspace_id", metavar="ID")
@server_options
def workspace_stop(*, workspace_id: str, **options: Any) -> None:
    """End all that runs in a workspace, and wait for that. Its files stay."""

    async def stop(client: WorkspaceClient) -> dict[str, Any]:
        await client.stop_workspace(workspace_id)
        return await _at_rest(client, workspace_id)

    click.echo(ask(options, WorkspaceClient, stop)["state"])


@workspace.command("delete")
@click.argument("workspace_id", metavar="ID")
@click.confirmation_option(prompt="Its files are deleted for good. Go on?")
@server_options
def workspace_delete(*, workspace_id: str, **options: Any) -> None:
    """Delete a workspace, with all its files, for good."""
    ask(options, WorkspaceClient, lambda client: client.delete_workspace(workspace_id))
    click.echo(f"deleted {workspace_id}")


@workspace.command("logs")
@click.argument("workspace_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until Ctrl-C")
@server_options
def workspace_logs(*, workspace_id: str, follow: bool, **options: Any) -> None:
    """Print what was said while a workspace was made and started."""

    async def read(client: WorkspaceClient) -> None:
        after = 0
        while True:
            lines = await client.workspace_log(workspace_id, after=after)
            for line in lines:
                click.echo(f"{line['source']:<8}{_visible(line['text'])}")
                after = line["number"]
            if not lines and not follow:
                return
            if not lines:
                await trio.sleep(FOLLOW_SECONDS)

    ask(options, WorkspaceClient, read)


@workspace.command("hosts")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def workspace_hosts(*, as_json: bool, **options: Any) -> None:
    """List the machines that run workspaces. Needs an administrator's token."""
    from chatcluster.cli.listings import show_workspace_hosts

    show_workspace_hosts(ask(options, WorkspaceClient, lambda client: client.workspace_hosts()), as_json=as_json)


async def _at_rest(client: WorkspaceClient, workspace_id: str) -> dict[str, Any]:
    """The workspace, once it does not change any more by itself."""
    with trio.move_on_after(REST_SECONDS_MAX):
        while (found := await client.workspace(workspace_id))["state"] not in AT_REST:  # noqa: ASYNC110 - of a server
            await trio.sleep(FOLLOW_SECONDS)
        return found
    raise click.ClickException(f"{workspace_id} is not at rest after {REST_SECONDS_MAX:g} s; its logs may say why")


def _say_state(found: dict[str, Any]) -> None:
    if found["state"] != "running":
        raise click.ClickException(f"{found['name']} is {found['state']}: {found['detail'] or 'see its logs'}")
    click.echo(f"{found['id']} {found['name']} is running")


def _text(path: Path) -> str:
    try:
        with click.open_file(str(path), encoding="utf-8-sig") as file:
            text = str(file.read(FILE_CHARACTERS_MAX + 1))
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{path} is no text in UTF-8") from None
    if len(text) > FILE_CHARACTERS_MAX:
        raise click.ClickException(f"{path} has more than {FILE_CHARACTERS_MAX} characters: that is no template")
    return text


def _parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError("--parameter takes NAME=VALUE")
    try:
        return name, msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return name, value


def _visible(text: str) -> str:
    """A program's output may steer a terminal; that it does not do here."""
    return "".join(one if one.isprintable() or one == "\t" else "\N{REPLACEMENT CHARACTER}" for one in text)
