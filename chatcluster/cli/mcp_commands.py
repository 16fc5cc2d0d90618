"""The commands for servers of tools. They speak to a cluster, as any administrator's client does.

Where a command takes a SECRET, ``@FILE`` reads it from a file and ``@-`` from standard input: others on the machine can
see what is written out.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from chatcluster.cli import exits
from chatcluster.cli.connected import ask
from chatcluster.cli.flags import Commands, Number, server_options
from chatcluster.client.mcp_administration import McpClient
from chatcluster.texts import tame

F = TypeVar("F", bound=Callable[..., Any])

SECRET_BYTES_MAX = 64 << 10
CALL_SECONDS_MAX = 3600
NOTHING: dict[str, Any] = {"allow": None, "deny": [], "tools": {}, "description": ""}
"""What is said of a server of which nothing is said."""
OAUTH_FLAGS = ("client_id", "client_secret", "issuer", "token_url", "authorization_url", "scope")
AUTH_FLAGS = ("bearer", "api_key", "headers", *OAUTH_FLAGS)

OPTIONS = (
    click.option("--transport", type=click.Choice(["streamable-http", "sse"]), help="Default: by the URL's end"),
    click.option("--bearer", metavar="SECRET", help="Authenticate with Authorization: Bearer"),
    click.option("--api-key", metavar="HEADER=SECRET", help="Authenticate with one header"),
    click.option("--header", "headers", multiple=True, metavar="NAME=SECRET", help="Authenticate with these headers"),
    click.option("--client-credentials", is_flag=True, help="The cluster signs in as itself (OAuth)"),
    click.option("--oauth", is_flag=True, help="Each user signs in (OAuth)"),
    click.option("--no-auth", is_flag=True, help="The server asks for nothing. Default"),
    click.option("--client-id", help="OAuth: of a client that is registered there. Default: the cluster registers"),
    click.option("--client-secret", metavar="SECRET", help="OAuth: the client's secret"),
    click.option("--issuer", metavar="URL", help="OAuth: where the client is registered. Default: the first one"),
    click.option("--token-url", help="OAuth: where tokens are had. Default: discovered"),
    click.option("--authorization-url", help="OAuth: where users sign in. Default: discovered"),
    click.option("--scope", help="OAuth: what to ask for. Default: what the server says"),
    click.option("--description", help="What it is for, to be shown to users"),
    click.option(
        "--availability",
        type=click.Choice(["off", "choice", "always"]),
        help="For no new chat, for chats that name it (default), or for every chat",
    ),
    click.option("--allow", multiple=True, metavar="TOOL", help="Only these tools; may be repeated"),
    click.option("--deny", multiple=True, metavar="TOOL", help="Not these tools; may be repeated"),
    click.option(
        "--approval", type=click.Choice(["never", "ask", "deny"]), help="Is a person asked first? Default: never"
    ),
    click.option(
        "--tool",
        "tools",
        multiple=True,
        metavar="NAME=WORD[,WORD]",
        help="Of one tool: never, ask or deny; and read, idempotent or once",
    ),
    click.option("--trusted/--untrusted", default=None, help="Whether to believe what it says its tools do"),
    click.option("--instructions/--no-instructions", default=None, help="Tell the model what it says about itself"),
    click.option("--idle-seconds", type=Number(1, CALL_SECONDS_MAX), help="Longest silence of a call. Default: 60"),
    click.option("--total-seconds", type=Number(1, CALL_SECONDS_MAX), help="Longest call. Default: 600"),
    click.option("--result-bytes-max", type=int, help="Largest result. Default: 10 MiB"),
)


def setting_options(function: F) -> F:
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@click.group(cls=Commands)
def mcp() -> None:
    """Servers of tools that speak MCP."""


@mcp.command("add")
@click.argument("slug")
@click.argument("server_url", metavar="URL")
@setting_options
@click.option("--disabled", is_flag=True, help="Not to be called yet")
@server_options
def add(*, slug: str, server_url: str, disabled: bool, **options: Any) -> None:
    """Add a server. Its tools are called SLUG__TOOL; secrets are encrypted before they are stored.

    \b
    chatcluster mcp add files http://127.0.0.1:9000/mcp
    chatcluster mcp add search https://host/mcp --bearer @token.txt --allow search
    chatcluster mcp add mail https://host/mcp --oauth --approval ask
    chatcluster mcp test files
    """
    run, fields = _split(options)
    if disabled:
        fields["enabled"] = False
    run(lambda client: client.add_mcp_server(slug, server_url, **fields))
    click.echo(f"added {slug}; `chatcluster mcp test {slug}` connects to it")


@mcp.command("list")
@click.option("--mine", is_flag=True, help="Those that your chats may use, and whether you are signed in there")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def list_servers(*, mine: bool, as_json: bool, **options: Any) -> None:
    """List the servers, without their secrets.

    All of them are for administrators to see; --mine is for everybody.
    """
    from chatcluster.cli.listings import show_mcp_servers, show_usable_servers

    run, _ = _split(options)
    if mine:
        show_usable_servers(run(_usable), as_json=as_json)
    else:
        show_mcp_servers(run(lambda client: client.mcp_servers()), as_json=as_json)


async def _usable(client: McpClient) -> list[dict[str, Any]]:
    logins = {server["slug"]: server for server in await client.my_mcp_servers()}
    return [{**server, "login": _login(logins.get(server["slug"]))} for server in await client.usable_mcp_servers()]


def _login(server: dict[str, Any] | None) -> str:
    if server is None:
        return "-"
    return "signed in" if server["signed_in"] else "sign in again" if server["refused"] else "sign in first"


@mcp.command("test")
@click.argument("slug")
@click.option("--json", "as_json", is_flag=True, help="The whole report, as JSON")
@server_options
def test(*, slug: str, as_json: bool, **options: Any) -> None:
    """Have a replica connect to a server now, and print its tools. Exit code 1 if that fails."""
    from chatcluster.cli.listings import show_mcp_report

    run, _ = _split(options)
    report = run(lambda client: client.test_mcp_server(slug))
    show_mcp_report(report, as_json=as_json)
    if not report["ok"]:
        if not as_json:
            click.echo(tame(f"Error: {slug}: {report['error']} ({report['trouble']})"), err=True)
        raise click.exceptions.Exit(exits.FAILED)


@mcp.command("set")
@click.argument("slug")
@click.option("--address", "server_url", metavar="URL", help="Another URL of the server")
@click.option("--slug", "new_slug", help="Another slug: its tools get other names")
@click.option("--allow-all", is_flag=True, help="Allow all tools but those that are denied")
@click.option(
    "--without", "cleared", type=click.Choice(list(NOTHING)), multiple=True, help="Take back what was said of that"
)
@setting_options
@server_options
def change(
    *,
    slug: str,
    server_url: str | None,
    new_slug: str | None,
    allow_all: bool,
    cleared: tuple[str, ...],
    **options: Any,
) -> None:
    """Change a server.

    Replicas work with it at once. Authentication, --allow and --deny are replaced as a whole; what was said of other
    tools than those of --tool stays.
    """
    taken_back = {name: NOTHING[name] for name in (*cleared, *(("allow",) if allow_all else ()))}
    run, fields = _split(options)
    if said := taken_back.keys() & fields.keys():
        raise click.UsageError(f"either say it or take it back: {', '.join(said)}")
    fields |= {name: value for name, value in (("url", server_url), ("slug", new_slug)) if value is not None}
    if not fields and not taken_back:
        raise click.UsageError("say what to change")
    run(partial(_change, slug=slug, fields=fields | taken_back))
    click.echo(f"changed {slug}")


async def _change(client: McpClient, *, slug: str, fields: dict[str, Any]) -> None:
    if fields.get("tools"):
        known: dict[str, dict[str, Any]] = (await client.mcp_server(slug))["tools"]
        said = {name: known.get(name, {}) | policy for name, policy in fields["tools"].items()}
        fields = {**fields, "tools": known | said}
    await client.change_mcp_server(slug, **fields)


@mcp.command("enable")
@click.argument("slug")
@server_options
def enable(*, slug: str, **options: Any) -> None:
    """Let a server be called (again)."""
    _split(options)[0](lambda client: client.change_mcp_server(slug, enabled=True))
    click.echo(f"enabled {slug}")


@mcp.command("disable")
@click.argument("slug")
@server_options
def disable(*, slug: str, **options: Any) -> None:
    """Turn a server off: no replica connects to it. Its settings are kept."""
    _split(options)[0](lambda client: client.change_mcp_server(slug, enabled=False))
    click.echo(f"disabled {slug}")


@mcp.command("remove")
@click.argument("slug")
@server_options
def remove(*, slug: str, **options: Any) -> None:
    """Remove a server, and all logins at it. Chats that name it go on without it."""
    _split(options)[0](lambda client: client.remove_mcp_server(slug))
    click.echo(f"removed {slug}")


@mcp.command("login")
@click.argument("slug")
@server_options
def login(*, slug: str, **options: Any) -> None:
    """Sign in at a server, as yourself.

    Prints the URL to open in a browser.
    """
    click.echo(_split(options)[0](lambda client: client.sign_in_url(slug)))


@mcp.command("logout")
@click.argument("slug")
@server_options
def logout(*, slug: str, **options: Any) -> None:
    """Forget your sign-in at a server."""
    _split(options)[0](lambda client: client.sign_out(slug))
    click.echo(f"signed out of {slug}")


# --- options ----------------------------------------------------------------------------------

Run = Callable[[Callable[[McpClient], Awaitable[Any]]], Any]


def _split(options: dict[str, Any]) -> tuple[Run, dict[str, Any]]:
    """How to reach the cluster, and what is said of a server."""
    server = {name: options.pop(name) for name in ("url", "token", "data_dir")}
    return partial(ask, server, McpClient), _fields(options)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in options.items() if value is not None and value != ()}
    auth = _auth({name: fields.pop(name) for name in (*AUTH_FLAGS, *KINDS) if name in fields})
    if auth is not None:
        fields["auth"] = auth
    for name in ("allow", "deny"):
        if name in fields:
            fields[name] = list(fields[name])
    if "tools" in fields:
        fields["tools"] = dict(map(_policy, fields["tools"]))
    return fields


KINDS = ("oauth", "client_credentials", "no_auth")


def _auth(given: dict[str, Any]) -> dict[str, Any] | None:
    chosen = [name for name in ("bearer", "api_key", "headers", *KINDS) if given.get(name)]
    details = {name: given[name] for name in OAUTH_FLAGS if name in given}
    if len(chosen) > 1:
        raise click.UsageError("give one kind of authentication")
    if details and chosen not in (["oauth"], ["client_credentials"]):
        raise click.UsageError("--client-id and its like go with --oauth or --client-credentials")
    if "client_secret" in details:
        details["client_secret"] = _secret(details["client_secret"])
    match chosen:
        case ["bearer"]:
            return {"kind": "bearer", "token": _secret(given["bearer"])}
        case ["api_key"]:
            header, value = _pair(given["api_key"], "--api-key")
            return {"kind": "api_key", "header": header, "value": _secret(value)}
        case ["headers"]:
            pairs = (_pair(text, "--header") for text in given["headers"])
            return {"kind": "headers", "headers": {name: _secret(value) for name, value in pairs}}
        case ["oauth" | "client_credentials" as kind]:
            return {"kind": kind, **details}
        case ["no_auth"]:
            return {"kind": "none"}
        case _:
            return None


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"{flag} takes NAME=SECRET")
    return name, value


def _secret(text: str) -> str:
    """What is written out, or stands in the file that ``@`` names. A line's end is no part of it."""
    if not text.startswith("@"):
        return text
    try:
        if text == "@-":
            return sys.stdin.read(SECRET_BYTES_MAX).strip()
        with Path(text[1:]).open() as file:
            return file.read(SECRET_BYTES_MAX).strip()
    except OSError as error:
        raise click.UsageError(f"cannot read {text[1:]}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{text[1:]} is not text") from None


def _policy(text: str) -> tuple[str, dict[str, str]]:
    name, _, words = text.rpartition("=")
    policy = {}
    for word in words.split(","):
        if word in ("never", "ask", "deny"):
            policy["approval"] = word
        elif word in ("read", "idempotent", "once"):
            policy["effect"] = word
        else:
            raise click.UsageError(
                f"--tool takes NAME=WORD with never, ask, deny, read, idempotent or once, not {word!r}"
            )
    if not name:
        raise click.UsageError("--tool takes NAME=WORD")
    return name, policy
