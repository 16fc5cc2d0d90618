"""Replicas of another commit in a cluster of our own, as in an upgrade that goes on one replica after the other.

That commit is checked out beside, and its replicas run on this virtual environment's packages, and those that only it
needs. They begin when our version has brought the database to its newest migration, serve behind the same proxy, die of
the same faults, and are started again by a keeper as ours are, with what it says in the same log. Of our settings they
are given what any version needs; the rest is theirs.

What happens on failure: a commit that git does not know, or whose replicas do not start, ends the run before it begins.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from checkout import CheckoutFailed, checked_out

from chaos.api import Api
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.options import Options
from chaos.tools import PATIENCE
from chatcluster.config import ENV_PREFIX, env_name
from chatcluster.errors import ConfigError
from chatcluster.local.keeper import Keeper, Ready

NEEDED = ("database_url", "redis_url", "encryption_keys", "llm_base_url", "llm_api_key", "llm_model", "push_key")
SHARED = frozenset(map(env_name, NEEDED)) | PATIENCE.keys()
"""The settings that both versions are given: what any version needs, and how soon a question is answered for nobody."""
STOP_MARGIN_SECONDS = 5.0
"""What a replica may take on top of its drain."""


@asynccontextmanager
async def open_beside(options: Options, cluster: Cluster) -> AsyncIterator[None]:
    """Replicas of the commit ``beside``, for the length of the block. Raises ``RuntimeError`` if they do not start."""
    if not options.cluster.beside:
        yield
        return
    assert cluster.logs is not None, "the options were checked: it is a cluster of our own"
    try:
        async with checked_out(options.cluster.beside, purpose="chaos-beside") as (tree, packages):
            environment = await _environment(options, cluster, tree, packages)
            async with trio.open_nursery() as nursery:
                for number in range(options.cluster.others):
                    await nursery.start(_keeper(f"beside-{number + 1}", options, cluster.logs, environment).run)
                yield
                nursery.cancel_scope.cancel()
    except (CheckoutFailed, ConfigError) as error:
        raise RuntimeError(str(error)) from None


async def _environment(options: Options, cluster: Cluster, tree: Path, packages: Path) -> dict[str, str]:
    """Ours, with those settings of a replica that both versions are given, and the code of ``tree``, with its
    ``packages``."""
    api = Api(cluster.url, cluster.token, options.draw("beside"))
    try:
        fleet = Fleet(api, size=1)
        await fleet.ready()
        pid = await fleet.process(fleet.replicas[0])
    finally:
        await api.aclose()
    environ = await trio.Path(f"/proc/{pid}/environ").read_text()
    words = (word.partition("=") for word in environ.split("\0"))
    given = {name: value for name, _, value in words if name in SHARED}
    own = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return own | given | {env_name("log_format"): "json", "PYTHONPATH": f"{tree}{os.pathsep}{packages}"}


def _keeper(name: str, options: Options, logs: Path, environment: dict[str, str]) -> Keeper:
    return Keeper(
        name,
        _command(name, options),
        environment=environment,
        log=logs / f"{name}.log",
        stop_seconds=options.cluster.drain_seconds + STOP_MARGIN_SECONDS,
        say=_into(logs.parent / "up.log"),
    )


def _command(name: str, options: Options) -> Callable[[Ready | None], Sequence[str]]:
    """As our supervisor's, without a port that replicas share: the proxy knows each one's own."""
    drain = (
        "--drain-seconds",
        f"{options.cluster.drain_seconds:g}",
        "--drain-notice-seconds",
        f"{options.cluster.drain_notice_seconds:g}",
    )

    def command(previous: Ready | None) -> list[str]:
        port = previous.port if previous else 0
        replaces = ["--replaces", previous.worker_id] if previous and previous.worker_id else []
        return ["serve", "--name", name, "--host", "127.0.0.1", "--port", str(port), *drain, *replaces]

    return command


def _into(log: Path) -> Callable[[str], None]:
    def say(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{line}\n")

    return say
