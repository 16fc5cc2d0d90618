"""The command line; ``scripts/resumption`` calls it."""

from __future__ import annotations

import sys
import time

import click
import msgspec
import trio
from interruption import EXIT_INTERRUPTED, until_interrupted

from resumption.run import MODES, Options, Run


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--how", type=click.Choice(MODES), default="background", show_default=True, help="What the model can do")
@click.option(
    "--kills", type=click.IntRange(1), default=100, show_default=True, help="Answers whose owner dies, at least"
)
@click.option("--chats", type=click.IntRange(1), default=6, show_default=True, help="Answers under way at a time")
@click.option("--replicas", type=click.IntRange(2), default=3, show_default=True, help="Size of the cluster")
@click.option("--tokens", type=click.IntRange(2), default=60, show_default=True, help="Length of an answer")
@click.option("--tokens-per-second", "tps", type=click.FloatRange(1), default=40.0, show_default=True, help="Its pace")
@click.option("--seed", type=int, default=0, show_default=True, help="Of what is left to chance here")
def resumption(**values: object) -> None:
    """Kill replicas in mid-answer, and count what the provider generates and what readers lose or get twice.

    Starts a cluster of its own. The last line of the output is one JSON object; the exit status is 1 if a promise was
    broken.

    \b
    scripts/resumption --how background --kills 100
    scripts/resumption --how prefix --kills 100
    scripts/resumption --how none --kills 20
    """
    options = msgspec.convert(values, Options)
    summary = trio.run(until_interrupted, Run(options, _say).run, _say)
    if summary is None:
        sys.exit(EXIT_INTERRUPTED)
    click.echo(msgspec.json.encode(summary).decode())
    sys.exit(1 if summary["violations"] else 0)


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


if __name__ == "__main__":
    resumption()
