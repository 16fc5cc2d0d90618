"""The command line of the chaos run; ``scripts/chaos`` calls it."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import trio
from checkout import has_file
from interruption import EXIT_INTERRUPTED, until_interrupted

from chaos.beside import open_beside
from chaos.busy import busy_processes
from chaos.cluster import open_cluster
from chaos.faults import ABOUT, FAILOVER, FAULTS, SERVER_FAULTS
from chaos.harms import HARMS, missing
from chaos.options import (
    KILLS_DEFAULT,
    MIX_DEFAULT,
    PROXIES,
    ClusterOptions,
    FaultOptions,
    Load,
    Options,
    parse_mix,
)
from chaos.proxy import open_front
from chaos.record import Record
from chaos.run import Run
from chaos.workspaces import run_workspaces
from chaos.writer import OPERATIONS

EXIT_VIOLATIONS = 1
EXIT_BROKEN = 3
CANNOT_GO_ON = (RuntimeError, OSError, subprocess.SubprocessError, trio.TooSlowError)
"""The cluster is not there, or what shall be done to it cannot be: that is no broken promise."""
OURS = frozenset((*SERVER_FAULTS, *HARMS, FAILOVER))
"""What is done only to a cluster of our own."""
FORGETFUL = (FAILOVER,)
"""Not with tools: a database that forgets what ran cannot be asked whether it did."""
EPILOG = (
    "\b\nThe faults:\n"
    + "\n".join(f"  {kind:<21}{about}" for kind, about in ABOUT.items())
    + """

From garbage to greedy each harms one chat, user, row, connection or clock. Bystanders, who have nothing to do with it,
hold turns all the time: the worst that one of them waited is told for each fault, and more than 2 s is a violation.
What a failover loses of the last moments before it is counted apart, as lost_by_failover.

In the end what was booked (usage_events) is held against what the simulated model counted itself, answer by answer.
What an attempt cost whose usage never came is unknown: such attempts are counted. What ended in the moments that a
failover takes back need not be booked; not judged at all is where the model, or the database, is given, and beside a
version that books nothing.
"""
)
USAGE = "chatcluster/postgres/sql/usage.sql"
"""What a version has that books what its attempts cost."""
SPAN = (click.FloatRange(0), click.FloatRange(0))
"""From, to."""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--chats", type=click.IntRange(1), default=20, show_default=True, help="Conversations at a time")
@click.option("--readers", type=click.IntRange(1), default=2, show_default=True, help="Readers of each chat")
@click.option("--kills", type=click.IntRange(0), help=f"Faults in all.  [default: {KILLS_DEFAULT}, or --minutes]")
@click.option("--minutes", type=click.FloatRange(0), help="How long there are faults")
@click.option("--faults", default="kill", show_default=True, help=f"Which, by chance: all, none, {','.join(FAULTS)}")
@click.option("--tools", is_flag=True, help="Have the model call tools of MCP servers: counting, slow, dying, asking")
@click.option(
    "--failing",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of messages whose first answer breaks off",
)
@click.option("--workspaces", is_flag=True, help="Commands in workspaces; --kills of owners, and others")
@click.option("--rolling", is_flag=True, help="Instead of faults: restart (TERM) each replica, one after the other")
@click.option("--beside", metavar="COMMIT", help="Half of the replicas are of this commit, behind --proxy")
@click.option("--proxy", type=click.Choice(PROXIES), help="Put this in front, with its files in deploy/")
@click.option("--replicas", type=click.IntRange(2), default=3, show_default=True, help="Size of a cluster of our own")
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is left to chance here")
@click.option("--mix", default=MIX_DEFAULT, show_default=True, help="What writers do, and how often")
@click.option(
    "--turns", type=click.IntRange(1), default=30, show_default=True, help="Messages to a chat, then a new one"
)
@click.option("--answer-seconds", type=SPAN, default=(1.5, 4.0), show_default=True, help="Length of answers")
@click.option(
    "--tokens-per-second",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    show_default=True,
    help="Pace of answers",
)
@click.option(
    "--pause",
    "pause_seconds",
    type=SPAN,
    default=(0.1, 0.6),
    show_default=True,
    help="Seconds between what came of one fault and the next",
)
@click.option("--stop-seconds", type=SPAN, default=(6.0, 9.0), show_default=True, help="Length of a freeze")
@click.option("--busy", type=click.IntRange(0), default=0, help="Processes that take the processor from the cluster")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(0),
    default=5.0,
    show_default=True,
    help="What the replicas are given at SIGTERM",
)
@click.option("--url", default="", help="A cluster that runs already, instead of one of our own")
@click.option("--token", default="", envvar="CHATCLUSTER_TOKEN", help="An administrator's token for it")
@click.option("--signal-command", default="", help="How to signal its replicas, where they are not on this machine")
@click.option("--simulated-model/--real-model", default=None, help="Whether that cluster's answers can be predicted")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), help="The record.  [default: a new file in /tmp]"
)
@click.option("--judge-times/--tell-times", default=True, help="Whether what comes late is a violation, or only told")
@click.option("--keep", is_flag=True, help="Keep the data and logs of a cluster of our own")
@click.argument("up_arguments", nargs=-1, type=click.UNPROCESSED)
def chaos(*, faults: str, simulated_model: bool | None, log: Path | None, **values: Any) -> None:
    """Kill replicas of a cluster under load, and check from outside that every promise is kept.

    Starts a cluster of its own (`chatcluster up`; what follows -- goes to it), or takes --url. The last line of the
    output is one JSON object; the exit status is 1 if any promise was broken, 3 if the run could not go on.
    Progress goes to standard error, and everything that was seen to the record (JSON lines).

    \b
    scripts/chaos --chats 20 --kills 20 --seed 1
    scripts/chaos --faults kill,stop,term --kills 100 --replicas 5
    scripts/chaos --faults all --minutes 30
    scripts/chaos --faults garbage,lock,freeze-connection,clock,huge,greedy --minutes 10
    scripts/chaos --faults none --busy 2 --replicas 6 --minutes 10
    scripts/chaos --tools --failing 0.1 --kills 300
    scripts/chaos --workspaces --chats 4 --kills 100
    scripts/chaos --rolling --chats 50
    scripts/chaos --rolling --chats 50 --proxy haproxy
    scripts/chaos --beside HEAD~20 --replicas 4 --kills 40
    scripts/chaos --beside HEAD~20 --replicas 4 --tools --kills 40
    scripts/chaos --replicas 2 -- --lease-ttl-seconds 3
    scripts/chaos --url https://chat.example --token ccl_... \\
        --signal-command 'ssh {host} systemctl kill --signal={signal} chatcluster'

    Your own cluster needs replicas whose advertised addresses can be reached from here, and whatever restarts
    a process that died. Without --signal-command the replicas' processes are looked for on this machine.
    """
    try:
        options = _options(faults, simulated_model, log, values)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _allow_many_connections()
    _spare_pauses()
    summary, reasons = None, ""
    try:
        summary = trio.run(until_interrupted, partial(_run, options), _say)
    except* CANNOT_GO_ON as group:
        reasons = "; ".join(str(leaf) or repr(leaf) for leaf in leaves(group))
    if reasons:
        click.echo(f"Error: {reasons}", err=True)
        sys.exit(EXIT_BROKEN)
    if summary is None:
        sys.exit(EXIT_INTERRUPTED)
    click.echo(msgspec.json.encode(summary).decode())
    sys.exit(EXIT_VIOLATIONS if summary["violations"] else 0)


def _options(faults: str, simulated_model: bool | None, log: Path | None, values: dict[str, Any]) -> Options:
    """Raises ``ValueError``."""
    impossible = OURS if values["url"] else FORGETFUL if values["tools"] else ()
    kinds = _kinds(faults, [kind for kind in FAULTS if kind not in impossible])
    parse_mix(values["mix"], OPERATIONS)
    if values["rolling"]:
        kinds = ("term",)
    if values["url"] and values["tools"]:
        raise ValueError("--tools needs a cluster of our own, not --url: its model is told what to call")
    if values["url"] and values["proxy"]:
        raise ValueError("--proxy goes in front of a cluster of our own, not of --url")
    if values["workspaces"] and (values["url"] or values["beside"] or values["rolling"]):
        raise ValueError("--workspaces has a cluster of its own, with kills as its faults")
    if values["workspaces"]:
        values["up_arguments"] = ("--workspaces", *values["up_arguments"])
    if values["beside"]:
        if values["url"]:
            raise ValueError("--beside needs a cluster of our own, not --url")
        values["proxy"] = values["proxy"] or PROXIES[0]
    if values["url"] and not values["url"].startswith(("http://", "https://")):
        raise ValueError(f"--url begins with http:// or https://, not like {values['url']!r}")
    if values["url"] and not values["token"]:
        raise ValueError("--url needs --token")
    predictable = not values["url"] if simulated_model is None else simulated_model
    for name in ("answer_seconds", "pause_seconds", "stop_seconds"):
        low, high = values[name]
        if low > high:
            raise ValueError(f"--{name.removesuffix('_seconds')}: {low:g} is more than {high:g}")
    if log is None:
        directory = Path(tempfile.gettempdir())
        log = directory / time.strftime("chatcluster-chaos-%Y%m%d-%H%M%S.jsonl")
    if not os.access(log.parent, os.W_OK):
        raise ValueError(f"--log: nothing can be written to {log.parent}")
    books = not values["beside"] or has_file(values["beside"], USAGE)
    money = predictable and books and not (values["url"] or values["workspaces"])
    given = values | {"kinds": kinds, "predictable": predictable}
    return Options(
        load=Load(**_those_of(Load, given)),
        faults=FaultOptions(**_those_of(FaultOptions, given)),
        cluster=ClusterOptions(**_those_of(ClusterOptions, given)),
        seed=values["seed"],
        log=log,
        money=money,
        judge_times=values["judge_times"],
    )


def _those_of(group: type, given: dict[str, Any]) -> dict[str, Any]:
    return {option.name: given[option.name] for option in fields(group)}


def _kinds(faults: str, possible: Sequence[str]) -> tuple[str, ...]:
    """What was asked for. Raises ``ValueError``."""
    if faults == "none":
        return ()
    kinds = tuple(possible if faults == "all" else (kind.strip() for kind in faults.split(",")))
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"there is no fault {kind!r}; there are {', '.join(FAULTS)}")
        if kind not in possible:
            raise ValueError(f"{kind} needs a cluster of our own, and one without --tools if it is {FAILOVER}")
    return _inflictable(kinds)


def _inflictable(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds that this machine has the programs for; it is said what is left out. ``ValueError`` where all is."""
    lacking = {kind: program for kind in kinds if (program := missing(kind)) is not None}
    for kind, program in lacking.items():
        _say(f"{kind} is left out: there is no {program} here")
    if kinds and len(lacking) == len(kinds):
        raise ValueError(f"none of these faults is possible here: {', '.join(kinds)}")
    return tuple(kind for kind in kinds if kind not in lacking)


async def _run(options: Options) -> dict[str, Any]:
    assert options.log is not None
    with Record(options.log) as record:
        async with (
            open_cluster(options) as own,
            open_beside(options, own),
            open_front(options, own) as cluster,
            busy_processes(options.faults.busy),
        ):
            if options.load.workspaces:
                return await run_workspaces(options, cluster, _say)
            return await Run(options, cluster, record, _say).run()


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in leaves(part)]
    return [error]


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


def _spare_pauses() -> None:
    """No full look of the garbage collector: late in a long run each took seconds, in which no reader told anything."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 1_000_000_000)


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    chaos(prog_name="scripts/chaos")
