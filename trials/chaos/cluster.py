"""The cluster of a run: our own, in a temporary directory, or one that is given by its URL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from chaos.faults import NEEDS
from chaos.journal import Journal
from chaos.model import OwnModel, open_model
from chaos.options import Options
from chaos.servers import Servers, open_servers
from chaos.tools import PATIENCE
from chaos.vitals import LOOP_WATCH
from chatcluster.local.embedded import child
from chatcluster.local.local_cluster import read_cluster, read_token

START_SECONDS_MAX = 600.0
"""More than `up` has patience for: it ends by itself where something does not start, and says what."""
POLL_SECONDS = 0.1
STOP_SECONDS_MAX = 30.0


class Cluster(NamedTuple):
    """Where it is. ``logs`` is the directory of the replicas' logs, ``journal`` those and their supervisor's; None
    where we cannot read them. ``servers`` are those that we can stop. ``tools`` is where servers of
    tools keep their logs, if there are to be any; ``ledger`` what its model's server noted, if that is ours. ``home``
    is where replicas of our own version are, if there are others at ``url``."""

    url: str
    token: str
    logs: Path | None
    journal: Journal | None
    servers: Servers | None
    tools: Path | None = None
    ledger: Path | None = None
    home: str | None = None


@asynccontextmanager
async def open_cluster(options: Options) -> AsyncIterator[Cluster]:
    """The cluster, for the length of the block. Our own is stopped in the end, and its data deleted.

    Raises ``RuntimeError`` if it does not start.
    """
    asked = options.cluster
    if asked.url:
        yield Cluster(asked.url.rstrip("/"), asked.token, None, None, None)
        return
    data_dir = _make_data_dir()
    try:
        async with (
            open_servers(data_dir, asked.replicas, options.faults.kinds, asked.up_arguments) as servers,
            open_model(data_dir, asked.up_arguments) if options.money else nullcontext(OwnModel()) as model,
            _own_cluster(options, data_dir, servers, model.arguments) as cluster,
        ):
            yield cluster._replace(tools=data_dir if options.load.tools else None, ledger=model.ledger)
    finally:
        if not asked.keep:
            shutil.rmtree(data_dir, ignore_errors=True)


def _make_data_dir() -> Path:
    """A directory with a short name, which embedded Postgres can enter: as root it runs as another user."""
    data_dir = Path(tempfile.mkdtemp(prefix="chatcluster-chaos-", dir="/tmp"))
    data_dir.chmod(0o755)
    return data_dir


@asynccontextmanager
async def _own_cluster(
    options: Options, data_dir: Path, servers: Servers, model: Sequence[str]
) -> AsyncIterator[Cluster]:
    asked, kinds = options.cluster, options.faults.kinds
    if foreign := [kind for kind in kinds if any(servers.of(name) is None for name in NEEDS.get(kind, ()))]:
        raise RuntimeError(f"{', '.join(foreign)}: that server was given and is not ours to hurt")
    log = data_dir / "up.log"
    arguments = ["up", "--port", "0", "--replicas", str(asked.replicas - asked.others), "--data-dir", str(data_dir)]
    arguments += ["--drain-seconds", f"{asked.drain_seconds:g}"]
    arguments += ["--drain-notice-seconds", f"{asked.drain_notice_seconds:g}", *model, *asked.up_arguments]
    process = child.spawn(
        [sys.executable, "-m", "chatcluster", *arguments],
        log=log,
        death_signal=signal.SIGTERM,
        environment=os.environ | LOOP_WATCH | (PATIENCE if options.load.tools else {}) | await servers.start(),
    )
    try:
        yield await _started(process, data_dir, log, servers)
    finally:
        with trio.CancelScope(shield=True):  # bounded by the escalation to SIGKILL
            stop = partial(child.stop, process, (signal.SIGINT, STOP_SECONDS_MAX))
            await trio.to_thread.run_sync(stop)


async def _started(process: subprocess.Popen[bytes], data_dir: Path, log: Path, servers: Servers) -> Cluster:
    with trio.move_on_after(START_SECONDS_MAX):
        while process.poll() is None:
            local, token = read_cluster(data_dir), read_token(data_dir)
            if local is not None and token is not None:
                return Cluster(local.url, token, data_dir / "logs", Journal(data_dir / "logs", log), servers)
            await trio.sleep(POLL_SECONDS)
    raise RuntimeError(f"the cluster does not start: {child.last_line(log, 'Error:')}")
