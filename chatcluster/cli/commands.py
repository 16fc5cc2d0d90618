"""The command line. Each command reads its settings and calls one function; ``exits.py`` says how it ends."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
import trio

from chatcluster import __version__
from chatcluster.cli import exits
from chatcluster.cli.flags import ALL, DATABASE, ready_fd_option, settings_flags
from chatcluster.config import (
    ENV_PREFIX,
    Settings,
    env_name,
    flag_name,
    from_environment,
)
from chatcluster.errors import ConfigError
from chatcluster.local.local_cluster import DEFAULT_DATA_DIR, reach, read_cluster

NOT_FOR_UP = {"host", "port", "name", "advertise", "replaces", "log_format"}
"""What `up` gives to each replica itself."""
UP_DEFAULTS = {"drain_seconds": 5.0, "drain_notice_seconds": 0.0}
"""The person who presses Ctrl-C waits for the drain, and there is no load balancer to tell."""


class Commands(click.Group):
    """In the order in which people need them, rather than by the alphabet."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)


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


def data_dir_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        default=DEFAULT_DATA_DIR,
        envvar=ENV_PREFIX + "DATA_DIR",
        show_default=True,
        show_envvar=True,
        help="Where `up` keeps its data, token and logs",
    )(function)


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How to reach a cluster; without them the one that `up` runs on this machine is meant."""
    for flag, text in (
        ("--token", "API token.  [default: on this machine that of the local cluster]"),
        ("--url", "URL of a cluster.  [default: the local one]"),
    ):
        function = click.option(flag, envvar=ENV_PREFIX + flag[2:].upper(), show_envvar=True, help=text)(function)
    return data_dir_option(function)


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
@click.option("--verbose", is_flag=True, help="Show everything that the replicas log, not only warnings")
@settings_flags(*(name for name in ALL if name not in NOT_FOR_UP))
def up(*, replicas: int, port: int, host: str, data_dir: Path, verbose: bool, **flags: Any) -> None:
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
    options = UpOptions(settings=settings, host=host, port=port, replicas=replicas, data_dir=data_dir, verbose=verbose)
    trio.run(partial(run, options, show=_tell, say=partial(_tell, err=True)))


def _tell(text: str, *, err: bool = False) -> None:
    """A cluster goes on when nobody reads what it says any more (`chatcluster up | head`)."""
    with suppress(BrokenPipeError):
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


@commands.command("simulate-llm")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8200, show_default=True, help="0 picks a free one")
@click.option("--tokens-per-second", type=click.FloatRange(0), default=50.0, show_default=True, help="0: all at once")
@click.option("--first-token-ms", type=click.FloatRange(0), default=0.0, show_default=True)
@click.option("--tokens", type=click.IntRange(0), default=100, show_default=True, help="Length of an answer")
@click.option("--seed", type=int, default=0, show_default=True, help="0 counts; another number draws words")
@click.option("--mode", type=click.Choice(["words", "echo", "clock"]), default="words", show_default=True)
@ready_fd_option
def simulate_llm(*, ready_fd: int | None, **options: Any) -> None:
    """Run a simulated model: an OpenAI-compatible server that answers, and fails, on demand.

    \b
    chatcluster simulate-llm --tokens-per-second 20
    chatcluster up --llm-base-url http://127.0.0.1:8200/v1 --llm-api-key any --llm-model simulated

    What is in double brackets in a prompt steers the answer to it. A name that does not exist is refused with
    the list of all of them.

    \b
    Tell me a story [[tokens=500 tps=20]]
    Tell me a story [[fail=429 retry_after=2 times=1]]
    Tell me a story [[cut_after=10 times=2]]
    """
    from chatcluster.cli.simulated_model import simulate

    trio.run(partial(simulate, ready_fd=ready_fd, **options))


# --- administration ---------------------------------------------------------------------------


@commands.command()
@data_dir_option
@settings_flags(*DATABASE)
def migrate(*, data_dir: Path, **flags: Any) -> None:
    """Bring the database's schema up to date. Safe to run at any time, from several places at once."""
    from chatcluster.local.provisioning import migrate_schema

    settings = _database_settings(data_dir, flags)
    for migration in trio.run(partial(migrate_schema, settings, say=partial(click.echo, err=True))):
        click.echo(f"applied {migration.version:04} {migration.name}")
    click.echo("The schema is up to date.")


@commands.group(cls=Commands)
def cluster() -> None:
    """What concerns a cluster as a whole."""


@cluster.command("new-id")
@data_dir_option
@settings_flags(*DATABASE)
def cluster_new_id(*, data_dir: Path, **flags: Any) -> None:
    """Give a clone of a database, made from a snapshot of its disk, an ID of its own; then restart its replicas.

    Two clusters with one ID on one Redis server would show each other's parts. A copy by pg_dump needs no new one.
    """
    from chatcluster.local.provisioning import new_cluster_id

    click.echo(trio.run(new_cluster_id, _database_settings(data_dir, flags)))


@commands.group(cls=Commands)
def token() -> None:
    """Create, list and revoke API tokens."""


@token.command("create")
@click.option("--user", default="admin", show_default=True, help="Whose token it is; the user is created if need be")
@click.option("--admin", is_flag=True, help="A user that is created is an administrator")
@click.option("--name", default="", help="What it is for")
@data_dir_option
@settings_flags(*DATABASE)
def token_create(*, user: str, admin: bool, name: str, data_dir: Path, **flags: Any) -> None:
    """Create a token and print it, once: only a digest is stored.

    \b
    chatcluster token create --user alice --name laptop
    """
    from chatcluster.local.provisioning import create_token

    settings = _database_settings(data_dir, flags)
    click.echo(trio.run(partial(create_token, settings, user=user, admin=admin, name=name)))


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@data_dir_option
@settings_flags(*DATABASE)
def token_list(*, as_json: bool, data_dir: Path, **flags: Any) -> None:
    """List all tokens: their IDs, users and use, never the tokens themselves."""
    from chatcluster.cli.listings import show_tokens
    from chatcluster.local.provisioning import list_tokens

    show_tokens(trio.run(list_tokens, _database_settings(data_dir, flags)), as_json=as_json)


@token.command("revoke")
@click.argument("token_id")
@data_dir_option
@settings_flags(*DATABASE)
def token_revoke(*, token_id: str, data_dir: Path, **flags: Any) -> None:
    """Revoke a token by its ID: what stands between the underscores of ccl_ID_…"""
    from chatcluster.local.provisioning import revoke_token

    settings = _database_settings(data_dir, flags)
    if not (token_id.isascii() and token_id.isalnum() and trio.run(revoke_token, settings, token_id)):
        raise click.ClickException(f"there is no token {token_id}")
    click.echo(f"revoked {token_id}")


def _database_settings(data_dir: Path, flags: dict[str, Any]) -> Settings:
    """Settings with a database: the one that is given, or that of the cluster on this machine."""
    settings = from_environment(os.environ, **flags)
    if not settings.database_url and (local := read_cluster(data_dir)):
        return replace(settings, database_url=local.database_url, redis_url=settings.redis_url or local.redis_url)
    _require(settings, "database_url")
    return settings


def _require(settings: Settings, *names: str) -> None:
    missing = [name for name in names if not getattr(settings, name)]
    if missing:
        wanted = " and ".join(f"--{flag_name(name)} (or {env_name(name)})" for name in missing)
        raise ConfigError(f"give {wanted}")


# --- using a cluster --------------------------------------------------------------------------


@commands.command()
@click.argument("question", required=False)
@click.option("--chat", "chat_id", metavar="ID", help="Go on with this chat instead of a new one")
@click.option("--model", help="Ask this model")
@server_options
def chat(
    *,
    question: str | None,
    chat_id: str | None,
    model: str | None,
    url: str | None,
    token: str | None,
    data_dir: Path,
) -> None:
    """Talk to a cluster: one QUESTION, or one after the other without it.

    The answer is streamed, also through the loss of the replica that serves it. Ctrl-C interrupts the answer,
    a second one leaves. Without a QUESTION, what is piped in is the question.

    \b
    chatcluster chat "Why is the sky blue?"
    chatcluster chat --chat 0198c7e2-...
    cat letter.txt | chatcluster chat
    """
    from chatcluster.cli.terminal_chat import Conversation, converse, question_of

    conversation = Conversation(*reach(url, token, data_dir), chat_id=chat_id, model=model)
    if question is None and sys.stdin is not None and sys.stdin.isatty():
        ended_well = converse(conversation, _prompt)
    else:
        ended_well = trio.run(conversation.turn, question_of(question))
    if conversation.chat_id and sys.stderr is not None and sys.stderr.isatty():
        click.secho(f"chatcluster chat --chat {conversation.chat_id} goes on with it", err=True, dim=True)
    if not ended_well:
        raise click.exceptions.Exit(exits.FAILED)


def _prompt() -> str:
    try:
        return input("> ")
    except UnicodeDecodeError:
        raise click.UsageError("the question is not text") from None


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table")
@server_options
def replicas(*, as_json: bool, url: str | None, token: str | None, data_dir: Path) -> None:
    """List the replicas of a cluster. Needs an administrator's token."""
    from chatcluster.cli.listings import show_replicas
    from chatcluster.client.client import Client

    async def fetch() -> Any:
        async with Client(*reach(url, token, data_dir)) as client:
            return await client.replicas()

    show_replicas(trio.run(fetch), as_json=as_json)


@commands.command()
@server_options
def link(*, url: str | None, token: str | None, data_dir: Path) -> None:
    """Print a link that signs a browser in on the page of a cluster, as the token's user: once, within ten minutes."""
    from chatcluster.client.client import Client

    base_url, secret = reach(url, token, data_dir)

    async def fetch() -> str:
        async with Client(base_url, secret) as client:
            return str((await client.sign_in_code())["path"])

    click.echo(base_url.strip().rstrip("/") + trio.run(fetch))


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit."""
    raise SystemExit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    return exits.exit_code_of(lambda: commands.main(arguments, prog_name="chatcluster", standalone_mode=False))
