"""The commands for what models cost, and for how much of it anybody may have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import click
import trio

from chatcluster.cli.flags import server_options
from chatcluster.local.local_cluster import reach


@click.command()
@click.option("--from", "since", metavar="DAY", help="A day or a moment (UTC).  [default: 30 days ago]")
@click.option("--to", "until", metavar="DAY", help="A day, with all of it, or a moment.  [default: now]")
@click.option("--by", "group_by", type=click.Choice(["day", "model", "chat", "user"]), help="[default: day; user]")
@click.option("--all", "everybody", is_flag=True, help="Of all users. Needs an administrator's token")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON instead of a table")
@server_options
def usage(*, as_json: bool, everybody: bool, **rest: Any) -> None:
    """What chats cost: tokens, and money where the models have prices.

    \b
    chatcluster usage --from 2026-01-01 --by model
    chatcluster usage --all
    """
    from chatcluster.cli.listings import show_usage

    names = {"since": "from", "until": "to", "group_by": "group_by"}
    query = {name: value for option, name in names.items() if (value := rest.pop(option)) is not None}
    everybody = everybody or query.get("group_by") == "user"
    show_usage(run(rest, lambda client: (client.admin.usage if everybody else client.usage)(**query)), as_json=as_json)


def run(server: dict[str, Any], call: Callable[[Any], Awaitable[Any]]) -> Any:
    """What ``call`` gets of a client of the cluster that the options name."""
    from chatcluster.client.client import Client

    async def fetch() -> Any:
        async with Client(*reach(server["url"], server["token"], server["data_dir"])) as client:
            return await call(client)

    return trio.run(fetch)
