"""The command line of the soak; ``scripts/soak`` calls it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import trio
from chaos.__main__ import EXIT_BROKEN, EXIT_VIOLATIONS, leaves
from chaos.api import Api
from chaos.cluster import Cluster, open_cluster
from chaos.fleet import Fleet
from chaos.options import ClusterOptions, FaultOptions, Options
from chaos.users import sign_up
from interruption import EXIT_INTERRUPTED, until_interrupted

from chatcluster.config import SETTINGS
from chatcluster.setting_checks import flag_name
from soak.aging import REST_SECONDS_MAX, come_to_rest, let_a_day_pass
from soak.gauges import Sample, read_gauges
from soak.load import SENDERS, Schedule, Sender, carry_load
from soak.report import table, verdict_lines
from soak.verdict import judge

CANNOT_GO_ON = (RuntimeError, OSError, subprocess.SubprocessError, trio.TooSlowError)
KEEP_SECONDS = 30.0
"""How long what was deleted is kept here."""
KEEP_SETTING = "deleted_keep_days"
DAY_SECONDS = 86_400.0
QUICK = {"chats": 500, "messages": 5_000, "load_minutes": 0.5, "purge_minutes": 1.0, "sample_seconds": 2.0}
MESSAGES_PER_OPERATION = 1.85
"""A turn is two messages, and some operations are none."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    chats: int
    messages: int
    load_minutes: float
    purge_minutes: float
    sample_seconds: float
    replicas: int
    seed: int
    up_arguments: tuple[str, ...]

    @property
    def operations(self) -> int:
        return round(self.messages / MESSAGES_PER_OPERATION)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--chats", type=click.IntRange(1), default=20_000, show_default=True, help="Chats in all")
@click.option("--messages", type=click.IntRange(1), default=200_000, show_default=True, help="Messages in all, about")
@click.option("--load-minutes", type=click.FloatRange(0, min_open=True), default=12.0, show_default=True)
@click.option(
    "--purge-minutes",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="After the load: for the purge, and for vacuum",
)
@click.option("--sample-seconds", type=click.FloatRange(0.1), default=5.0, show_default=True, help="Between samples")
@click.option("--replicas", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all that is left to chance here")
@click.option("--quick", is_flag=True, help="For trying: 500 chats, 5000 messages, a minute and a half")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="All samples and the verdict"
)
@click.argument("up_arguments", nargs=-1, type=click.UNPROCESSED)
def soak(*, quick: bool, json_path: Path | None, **values: Any) -> None:
    """A day of bounded load in a quarter of an hour: is everything flat when it has been purged?

    Starts a cluster of its own (`chatcluster up`; what follows -- goes to it), whose model answers at once, and has it
    serve users who talk, edit, archive, interrupt, repeat requests under their keys, and revoke tokens. Then what a day
    would end is ended, the purge gets its time, and the figures are judged: memory and files of the replicas, sizes
    and dead rows of tables, what was to be purged, keys of Redis. The tolerances are in trials/soak/verdict.py.

    The exit status is 1 if anything is not flat, 3 if the run could not go on.

    \b
    scripts/soak
    scripts/soak --quick
    scripts/soak --chats 5000 --messages 50000 --load-minutes 4 --json soak.json
    """
    plan = Plan(**(values | (QUICK if quick else {})))
    result, reasons = None, ""
    try:
        result = trio.run(until_interrupted, partial(_run, plan, _say), _say)
    except* CANNOT_GO_ON as group:
        reasons = "; ".join(str(leaf) or repr(leaf) for leaf in leaves(group))
    if reasons:
        click.echo(f"Error: {reasons}", err=True)
        sys.exit(EXIT_BROKEN)
    if result is None:
        sys.exit(EXIT_INTERRUPTED)
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    sys.exit(0 if result["flat"] else EXIT_VIOLATIONS)


async def _run(plan: Plan, say: Callable[[str], None]) -> dict[str, Any]:
    keeping = [f"--{flag_name(KEEP_SETTING)}={KEEP_SECONDS / DAY_SECONDS:.6f}"] if _can_purge() else []
    if not keeping:
        say(f"this version has no setting {KEEP_SETTING}: nothing will be purged")
    cluster_options = ClusterOptions(replicas=plan.replicas, up_arguments=(*keeping, *plan.up_arguments))
    options = Options(faults=FaultOptions(kinds=()), cluster=cluster_options, seed=plan.seed)
    async with open_cluster(options) as cluster:
        return await _Soak(plan, options, cluster, say).run()


def _can_purge() -> bool:
    return KEEP_SETTING in SETTINGS


class _Soak:
    def __init__(self, plan: Plan, options: Options, cluster: Cluster, say: Callable[[str], None]) -> None:
        assert cluster.servers is not None
        self._plan = plan
        self._options = options
        self._cluster = cluster
        self._servers = cluster.servers
        self._say = say
        self._samples: list[Sample] = []
        self._counts: Counter[str] = Counter()
        self._began = time.monotonic()

    async def run(self) -> dict[str, Any]:
        api = Api(self._cluster.url, self._cluster.token, self._options.draw("api"))
        try:
            fleet = Fleet(api, size=self._plan.replicas)
            await fleet.ready()
            return await self._soak(api, fleet)
        finally:
            with trio.CancelScope(shield=True):
                await api.aclose()

    async def _soak(self, api: Api, fleet: Fleet) -> dict[str, Any]:
        senders = [await self._sender(api, number) for number in range(SENDERS)]
        await self._sample(fleet)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sample_on, fleet)
            schedule = Schedule(
                operations=self._plan.operations, chats=self._plan.chats, seconds=60 * self._plan.load_minutes
            )
            await carry_load(senders, schedule)
            await self._sample(fleet)
            loaded = len(self._samples) - 1
            seconds = trio.current_time() - schedule.began
            self._say(f"loaded in {seconds:.0f} s: {dict(self._counts)}")
            if not await come_to_rest(self._servers):
                self._say(f"not all chats came to rest within {REST_SECONDS_MAX:.0f} s")
            endless = await let_a_day_pass(self._servers)
            await trio.sleep(60 * self._plan.purge_minutes)
            nursery.cancel_scope.cancel()
        await self._sample(fleet)
        return self._conclude(loaded, endless, seconds)

    async def _sender(self, api: Api, number: int) -> Sender:
        draw = self._options.draw("sender", number)
        access, token = await sign_up(api, f"soak-{number}", draw)
        await access.aclose()
        return Sender(self._cluster.url, token, self._cluster.token, self._counts, draw)

    async def _sample_on(self, fleet: Fleet) -> None:
        while True:
            await trio.sleep(self._plan.sample_seconds)
            await self._sample(fleet)

    async def _sample(self, fleet: Fleet) -> None:
        sample = await read_gauges(fleet, self._servers, self._began)
        self._samples.append(sample)
        if len(self._samples) % 12 == 1:
            self._say(
                f"{sample['seconds']:.0f} s: {sample['chats rows inserted']:.0f} chats,"
                f" {sample['messages rows inserted']:.0f} messages, {sample['redis keys']:.0f} keys in Redis"
            )

    def _conclude(self, loaded: int, endless: int, seconds: float) -> dict[str, Any]:
        rules = judge(self._samples, loaded=loaded, endless_keys=endless)
        for line in (*table(self._samples, loaded), *verdict_lines(rules)):
            click.echo(line)
        return {
            "flat": all(rule.held for rule in rules),
            "plan": asdict(self._plan),
            "load_seconds": round(seconds, 1),
            "operations": dict(self._counts),
            "rules": [rule._asdict() | {"held": rule.held} for rule in rules],
            "samples": self._samples,
        }


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


if __name__ == "__main__":
    soak(prog_name="scripts/soak")
