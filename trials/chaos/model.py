"""The model's server of a run: a simulated one of our own, which notes each answer for the judge of money.

``chatcluster up`` would start one that keeps no ledger. If the run is given a model's server, it starts none.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio
from local_ports import free_port, is_listened_to

from chaos.servers import given
from chatcluster.local.embedded import child

START_SECONDS_MAX = 30.0
STOP_SECONDS = 2.0
FALLBACKS = ("OPENAI_BASE_URL",)
"""Other names of the setting."""


class OwnModel(NamedTuple):
    """``arguments`` are for ``chatcluster up``."""

    arguments: tuple[str, ...] = ()
    ledger: Path | None = None


@asynccontextmanager
async def open_model(data_dir: Path, up_arguments: Sequence[str]) -> AsyncIterator[OwnModel]:
    """The server, for the length of the block, if none is given. Raises ``RuntimeError`` if it does not start."""
    if given("llm_base_url", up_arguments) or any(os.environ.get(name) for name in FALLBACKS):
        yield OwnModel()
        return
    port, ledger, log = free_port(), data_dir / "ledger.jsonl", data_dir / "model.log"
    command = [sys.executable, "-m", "chatcluster", "simulate-llm", "--port", str(port), "--ledger", str(ledger)]
    process = child.spawn(command, log=log, death_signal=signal.SIGTERM, environment=dict(os.environ))
    try:
        if not await is_listened_to(port, seconds_max=START_SECONDS_MAX):
            raise RuntimeError(f"the simulated model does not start: {child.last_line(log, 'Error:')}")
        url = f"http://127.0.0.1:{port}/v1"
        wanted = {"llm-base-url": url, "llm-api-key": "simulated", "llm-model": "simulated"}
        own = ((f"--{flag}", text) for flag, text in wanted.items() if not given(flag.replace("-", "_"), up_arguments))
        yield OwnModel(tuple(word for pair in own for word in pair), ledger)
    finally:
        with trio.CancelScope(shield=True):  # bounded by the escalation to SIGKILL
            await trio.to_thread.run_sync(child.stop, process, (signal.SIGTERM, STOP_SECONDS))
