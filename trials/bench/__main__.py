"""The command line of the bench; ``scripts/bench`` calls it."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio
from interruption import EXIT_INTERRUPTED, until_interrupted

from bench.errors import BenchError
from bench.report import as_json, comparison, missed, read_run, table
from bench.run import Plan, Results, run
from bench.sides import THEN
from bench.workloads import BY_NAME, WORKLOADS
from chatcluster import __version__

STDOUT = Path("-")
EXIT_MISSED = 1
EXIT_BROKEN = 3
REPEATS = 5
REPEATS_QUICK = 1


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--workload", "names", multiple=True, type=click.Choice(tuple(BY_NAME)), help="Only this one; may be repeated"
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    help=f"Repeats of each; fewer of those that take long (--list)  [default: {REPEATS}; --quick: {REPEATS_QUICK}]",
)
@click.option("--quick", is_flag=True, help="A short run: shorter answers, one repeat, fewer steps")
@click.option(
    "--json",
    "json_path",
    metavar="[FILE]",
    is_flag=False,
    flag_value="-",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write an object for each workload there, a line each; without FILE to standard output, in place of the table",
)
@click.option(
    "--compare",
    "compare_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What an earlier run wrote with --json: print the ratios",
)
@click.option(
    "--against",
    metavar="COMMIT",
    help="Measure this commit as well, each repeat in turns with this tree, and print the ratios",
)
@click.option("--list", "show_list", is_flag=True, help="Say what the workloads are, and end")
def bench(
    *,
    names: tuple[str, ...],
    repeat: int | None,
    quick: bool,
    json_path: Path | None,
    compare_path: Path | None,
    against: str | None,
    show_list: bool,
) -> None:
    """Measure a cluster of its own on this machine, and compare the figures with their targets.

    Starts Postgres (with fsync), Redis, a model and replicas, and stops them in the end. A figure is the median of
    the repeats (the worst, where one is too many). Beside the figures stands how quick the machine was: compare
    figures of two days by that, or better measure both versions in one run (--against). The exit status is 1 if a
    target was missed, 3 if a workload could not be measured.

    \b
    scripts/bench
    scripts/bench --quick --workload stream --workload fan-out
    scripts/bench --json new.json --compare old.json
    scripts/bench --workload outside --against HEAD~20
    scripts/bench --quick --workload stream --json
    """
    if show_list:
        for workload in WORKLOADS:
            at_most = f" (repeats: at most {workload.repeats_max})" if workload.repeats_max < REPEATS else ""
            click.echo(f"{workload.name:<12} {workload.what}{at_most}")
        return
    old = _earlier_run(compare_path) if compare_path else None
    if json_path and json_path != STDOUT and not os.access(json_path.parent, os.W_OK):
        raise click.BadParameter(f"nothing can be written to {json_path.parent}", param_hint="--json")
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    repeats = repeat or (REPEATS_QUICK if quick else REPEATS)
    results = _measured(Plan(names or tuple(BY_NAME), repeats, quick, against))
    cases = results.now
    for_people = partial(click.echo, err=json_path == STDOUT)
    for_people(table(cases))
    if json_path == STDOUT:
        click.echo(as_json(cases, _conditions(quick)), nl=False)
    elif json_path:
        json_path.write_text(as_json(cases, _conditions(quick)))
    if old is not None:
        for_people("\n" + comparison(old, cases))
    if then := results.cases.get(THEN):
        for_people(f"\nAgainst {against}, in turns:\n" + comparison(read_run(as_json(then, {})), cases))
    shortfalls = missed(cases)
    for_people(f"\n{len(shortfalls)} target(s) missed" + "".join(f"\n  {line}" for line in shortfalls))
    sys.exit(EXIT_BROKEN if results.errors else EXIT_MISSED if shortfalls else 0)


def _measured(plan: Plan) -> Results:
    """What the run gave; it ends the command where nothing could be measured."""
    try:
        results = trio.run(until_interrupted, partial(run, plan, _say), _say)
    except* BenchError as group:
        raise click.ClickException(str(group.exceptions[0])) from None
    if results is None:
        sys.exit(EXIT_INTERRUPTED)
    for error in results.errors:
        _say(f"Error: {error}")
    return results


def _earlier_run(path: Path) -> dict[str, Any]:
    """What is to be compared with: looked at before the measurement, which takes an hour."""
    try:
        return read_run(path.read_text())
    except ValueError as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--compare") from None


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)


def _conditions(quick: bool) -> dict[str, Any]:
    return {
        "version": __version__,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "quick": quick,
    }


if __name__ == "__main__":
    bench(prog_name="scripts/bench")
