"""The commands for usage and for usage limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from chatcluster.cli.connected import ask
from chatcluster.cli.flags import Commands, Number, server_options
from chatcluster.client.client import Client


@click.command()
@click.option("--from", "since", metavar="DAY", help="A day or a moment (UTC).  [default: 30 days ago]")
@click.option("--to", "until", metavar="DAY", help="A day, with all of it, or a moment.  [default: now]")
@click.option(
    "--by", "group_by", type=click.Choice(["day", "model", "chat", "family", "user"]), help="[default: day; user]"
)
@click.option("--all", "everybody", is_flag=True, help="Of all users. Needs an administrator's token")
@click.option("--json", "as_json", is_flag=True, help="The answer as JSON instead of a table")
@server_options
def usage(*, as_json: bool, everybody: bool, **rest: Any) -> None:
    """What chats cost, in tokens and in money.

    Money is counted where the models have prices.

    \b
    chatcluster usage --from 2026-01-01 --by model
    chatcluster usage --all
    """
    from chatcluster.cli.listings import show_usage

    names = {"since": "from", "until": "to", "group_by": "group_by"}
    query = {name: value for option, name in names.items() if (value := rest.pop(option)) is not None}
    everybody = everybody or query.get("group_by") == "user"
    answer = ask(rest, Client, lambda client: (client.admin.usage if everybody else client.usage)(**query))
    show_usage(answer, as_json=as_json)


@click.group(cls=Commands)
def limits() -> None:
    """How much users may spend.

    In money, in tokens; in a day, a week, a month. Needs an administrator's token.
    """


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Whose limit is meant, and for when."""
    function = click.option("--user", help="Of this user, whatever the user's groups have")(function)
    function = click.option("--group", help="Of each user of this group")(function)
    text = "UTC; weeks begin on Monday"
    return click.option("--per", type=click.Choice(["day", "week", "month"]), required=True, help=text)(function)


@limits.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of tables")
@server_options
def limits_list(*, as_json: bool, **rest: Any) -> None:
    """List the limits, and the members of each group."""
    from chatcluster.cli.listings import show_limits

    async def fetch(client: Client) -> Any:
        return await client.admin.limits(), await client.admin.group_members()

    show_limits(*ask(rest, Client, fetch), as_json=as_json)


@limits.command("set")
@place_options
@click.option("--cost", type=Number(0, 1e9), help="In the currency of the models' prices: 2.50")
@click.option("--tokens", type=click.IntRange(0, 2**53 - 1), help="Input and output")
@click.option("--none", "unlimited", is_flag=True, help="No limit, whatever the groups or the default have")
@server_options
def limits_set(*, cost: float | None, tokens: int | None, unlimited: bool, **rest: Any) -> None:
    """Set a limit: of a user, of a group, or of everybody else.

    For each period a user's own limit counts; without one the least of the user's groups; without those the default.

    \b
    chatcluster limits set --per month --cost 20
    chatcluster limits set --per day --group students --tokens 100000
    chatcluster limits set --per day --user ada --none
    """
    if unlimited == (cost is not None or tokens is not None):
        raise click.UsageError("give --cost, --tokens or both, or --none")
    amounts = {"cost_micros": None if cost is None else round(cost * 1_000_000), "tokens": tokens}
    place = _place(rest)
    ask(rest, Client, lambda client: client.admin.set_limit(**place, **amounts))
    click.echo(f"limited {place['subject']} {place['name']}".strip())


@limits.command("remove")
@place_options
@server_options
def limits_remove(**rest: Any) -> None:
    """Remove a limit. Where a user's own limit is removed, that of the groups counts again, or else the default."""
    place = _place(rest)
    ask(rest, Client, lambda client: client.admin.remove_limit(**place))
    click.echo(f"removed the limit of {place['subject']} {place['name']}".strip())


@limits.command("join")
@click.argument("group")
@click.argument("user")
@server_options
def limits_join(*, group: str, user: str, **rest: Any) -> None:
    """Put a USER into a GROUP."""
    ask(rest, Client, lambda client: client.admin.add_to_group(group, user))
    click.echo(f"{user} is in {group}")


@limits.command("leave")
@click.argument("group")
@click.argument("user")
@server_options
def limits_leave(*, group: str, user: str, **rest: Any) -> None:
    """Take a USER out of a GROUP."""
    ask(rest, Client, lambda client: client.admin.remove_from_group(group, user))
    click.echo(f"{user} is not in {group} any more")


def _place(options: dict[str, Any]) -> dict[str, str]:
    """The place that the options name; they are taken out."""
    user, group, period = (options.pop(name) for name in ("user", "group", "per"))
    if user is not None and group is not None:
        raise click.UsageError("give --user or --group, not both")
    subject = "user" if user is not None else "group" if group is not None else "default"
    return {"subject": subject, "name": user or group or "", "period": period}
