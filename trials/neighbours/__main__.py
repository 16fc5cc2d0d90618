"""The command line of the neighbours; ``scripts/neighbours`` calls it.

A cluster of its own, with three chats. One has its workspace do harm, of each kind for some seconds. The second runs
short commands in its own workspace, and the third talks to a model without any workspace: the median of each in quiet,
and beside each harm. The exit status is 1 if one of them takes more than ``RATIO_MAX`` times as long.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import aclosing
from typing import Any

import click
import msgspec
import trio
from chaos.cluster import open_cluster
from chaos.options import ClusterOptions, Options

from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import Client

RATIO_MAX = 2.0
TURN_SECONDS_MAX = 60.0
SETTLE_SECONDS = 1.0
EXIT_MISSED = 1
HARMS = {
    "endless output": "yes",
    "a fork bomb": "bomb() { bomb | bomb & }; bomb; wait; sleep 1000",
    "a full disk": "while :; do head -c 8G /dev/zero >full; rm -f full; done",
    "100 000 files": "while :; do mkdir many; cd many; seq 100000 | xargs touch; cd ..; rm -rf many; done",
    "all of its memory": "while :; do /usr/bin/python3 -c 'bytearray(1 << 34)'; done",
    "busy and deaf processes": "trap '' TERM INT HUP; for i in $(seq 32); do (while :; do :; done) & done; wait",
}
Figures = tuple[float, float]
"""Medians, in seconds: a command in another workspace, a turn of another chat."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--turns", type=click.IntRange(3), default=15, show_default=True, help="Measured of each, beside each harm"
)
def neighbours(*, turns: int) -> None:
    """Measure what a workspace that takes all it can costs another workspace, and a chat without one."""
    lines = trio.run(_measure, turns)
    for line in lines:
        click.echo(msgspec.json.encode(line).decode())
    sys.exit(EXIT_MISSED if any(line["worst_ratio"] > RATIO_MAX for line in lines) else 0)


async def _measure(turns: int) -> list[dict[str, Any]]:
    options = Options(cluster=ClusterOptions(replicas=2, up_arguments=("--workspaces",)))
    async with open_cluster(options) as cluster, Client(cluster.url, cluster.token) as client:
        harmful, other, bystander = [(await client.create())["id"] for _ in range(3)]
        for chat_id in (harmful, other):
            await _turn(client, chat_id, 'call=create_workspace {"template_id": "default"}')
        await _figures(client, other, bystander, turns)  # so that nothing is measured that happens once
        quiet = await _figures(client, other, bystander, turns)
        lines = [_line("quiet", quiet, quiet)]
        for name, command in HARMS.items():
            arguments = msgspec.json.encode({"command": command, "run_in_background": True}).decode()
            begun = await _turn(client, harmful, f"call=execute {arguments.replace(']]', '] ]')}")
            await trio.sleep(SETTLE_SECONDS)
            lines.append(_line(name, await _figures(client, other, bystander, turns), quiet))
            await _turn(client, harmful, f'call=process_signal {{"process_id": "{begun}", "signal": "kill"}}')
            click.echo(f"{name}: {lines[-1]}", err=True)
    return lines


def _line(name: str, found: Figures, quiet: Figures) -> dict[str, Any]:
    ratios = [now / before for now, before in zip(found, quiet, strict=True)]
    return {
        "beside": name,
        "command_ms": round(1000 * found[0]),
        "turn_ms": round(1000 * found[1]),
        "worst_ratio": round(max(ratios), 2),
    }


async def _figures(client: Client, other: str, bystander: str, turns: int) -> Figures:
    commands, plain = [], []
    for _ in range(turns):
        commands.append(await _seconds(client, other, 'call=execute {"command": "seq 100000 | sort | wc -l"}'))
        plain.append(await _seconds(client, bystander, "tokens=20 tps=0"))
    return statistics.median(commands), statistics.median(plain)


async def _seconds(client: Client, chat_id: str, order: str) -> float:
    began = trio.current_time()
    await _turn(client, chat_id, order)
    return trio.current_time() - began


async def _turn(client: Client, chat_id: str, order: str) -> str:
    """The ID of the last call once the chat rests. Raises ``trio.TooSlowError``."""
    steps = f"[[{order}]] [[step=2 say=over]]" if order.startswith("call=") else f"[[{order}]]"
    with trio.fail_after(TURN_SECONDS_MAX):
        sent = await client.send(chat_id, steps)
        view = ChatView()
        async with aclosing(client.stream(chat_id)) as events:
            async for cursor, event in events:
                view.apply(cursor, event)
                if view.ready and view.at_rest and max(view.messages, default=0) > sent["message"]["id"]:
                    break
    calls = [part.call_id for message in view.messages.values() for part in message.parts if hasattr(part, "call_id")]
    return str(calls[-1]) if calls else ""


if __name__ == "__main__":
    neighbours(prog_name="scripts/neighbours")
