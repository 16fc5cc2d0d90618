"""The command line. Each command reads its settings and calls one function; ``exits.py`` says how it ends."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
import trio

from chatcluster import __version__
from chatcluster.cli import exits
from chatcluster.cli.connected import ask
from chatcluster.cli.flags import (
    ALL,
    Commands,
    data_dir_option,
    ready_fd_option,
    server_options,
    settings_flags,
)
from chatcluster.cli.groups import GROUPS
from chatcluster.cli.simulated_model import simulate_llm
from chatcluster.cli.workspace_host import workspace_host
from chatcluster.client.client import Client
from chatcluster.config import ENV_PREFIX, env_name, from_environment
from chatcluster.local.local_cluster import reach

NOT_FOR_UP = {"host", "port", "name", "advertise", "replaces", "log_format"}
"""What `up` gives to each replica itself."""
UP_DEFAULTS = {"drain_seconds": 5.0, "drain_notice_seconds": 0.0}
"""The person who presses Ctrl-C waits for the drain, and there is no load balancer to tell."""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings are flags, or environment variables: COMMAND --help names both.",
)
@click.version_option(__version__, prog_name="chatcluster")
def commands() -> None:
    """Durable AI chats on several replicas: kill any process, the chat goes on.

    \b
    chatcluster up                    a whole cluster on this machine, with all it needs
    chatcluster chat "Hello"          talk to it
    chatcluster serve --help          one replica, for a cluster on several machines
    """


# --- servers ----------------------------------------------------------------------------------


@commands.command()
@click.option(
    "--replicas",
    type=click.IntRange(1, 64),
    default=3,
    envvar=ENV_PREFIX + "REPLICAS",
    show_default=True,
    show_envvar=True,
    help="How many to start",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar=ENV_PREFIX + "PORT",
    show_default=True,
    show_envvar=True,
    help="Public port, which the replicas share; 0 picks a free one",
)
@click.option(
    "--host",
    default="127.0.0.1",
    envvar=ENV_PREFIX + "HOST",
    show_default=True,
    show_envvar=True,
    help="Address of the public port",
)
@data_dir_option
@click.option(
    "--workspaces",
    is_flag=True,
    envvar=ENV_PREFIX + "WORKSPACES",
    show_envvar=True,
    help="Run a workspace host as well: a place where chats run programs. Needs bubblewrap",
)
@click.option("--verbose", is_flag=True, help="Show everything that the replicas log, not only warnings")
@settings_flags(*(name for name in ALL if name not in NOT_FOR_UP))
def up(*, replicas: int, port: int, host: str, data_dir: Path, workspaces: bool, verbose: bool, **flags: Any) -> None:
    """Start a whole cluster on this machine.

    Postgres and Redis are embedded unless URLs are given, and without --llm-base-url a simulated model
    answers. Prints a URL, a token and a command to try. Ctrl-C stops everything and keeps the data.

    \b
    chatcluster up
    chatcluster up --replicas 5 --port 9000
    CHATCLUSTER_LLM_API_KEY=... chatcluster up --llm-base-url https://host/v1 --llm-model NAME
    """
    from chatcluster.local.supervisor import UpOptions
    from chatcluster.local.supervisor import up as run

    environment = {name: value for name, value in os.environ.items() if name not in _own_variables()}
    for name, default in UP_DEFAULTS.items():
        if flags[name] is None and env_name(name) not in environment:
            flags[name] = default
    settings = from_environment(environment, **flags)
    options = UpOptions(
        settings=settings,
        host=host,
        port=port,
        replicas=replicas,
        data_dir=data_dir,
        verbose=verbose,
        workspaces=workspaces,
    )
    trio.run(partial(run, options, show=_tell, say=partial(_tell, err=True)))


def _tell(text: str, *, err: bool = False) -> None:
    """A cluster goes on when what it says can be written nowhere: `chatcluster up | head`, a terminal that was closed,
    a file on a full disk."""
    with suppress(OSError):
        click.echo(text, err=err)


def _own_variables() -> set[str]:
    return {ENV_PREFIX + name.upper() for name in NOT_FOR_UP}


@commands.command()
@settings_flags(*ALL)
@click.option("--listen-fd", type=int, help="Serve on this inherited listening socket as well")
@ready_fd_option
def serve(*, listen_fd: int | None, ready_fd: int | None, **flags: Any) -> None:
    """Run one replica against given servers.

    SIGTERM drains it: chats are handed over at the end of their step. A second one ends it at once.

    \b
    export CHATCLUSTER_DATABASE_URL=postgresql://user:password@db/chatcluster
    export CHATCLUSTER_REDIS_URL=redis://redis:6379/0
    chatcluster migrate && chatcluster serve --host 0.0.0.0 --port 8100
    """
    from chatcluster.cluster import serve as run

    settings = from_environment(os.environ, **flags)
    allow_many_connections()
    trio.run(partial(run, settings, listen_fd=listen_fd, ready_fd=ready_fd))


def allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each reader is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


commands.add_command(workspace_host)
commands.add_command(simulate_llm)


# --- administration ---------------------------------------------------------------------------


for group in GROUPS:
    commands.add_command(group)


# --- using a cluster --------------------------------------------------------------------------


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def replicas(*, as_json: bool, **server: Any) -> None:
    """List the replicas of a cluster. Needs an administrator's token."""
    from chatcluster.cli.listings import show_replicas

    show_replicas(ask(server, Client, lambda client: client.replicas()), as_json=as_json)


@commands.command()
@server_options
def link(**server: Any) -> None:
    """Print a link that signs a browser in.

    It opens the page of the cluster as the token's user, once, within ten minutes.
    """
    base_url, _ = reach(**server)
    code = ask(server, Client, lambda client: client.sign_in_code())
    click.echo(base_url.strip().rstrip("/") + code["path"])


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit."""
    raise SystemExit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return exits.exit_code_of(lambda: commands.main(arguments, prog_name="chatcluster", standalone_mode=False))
