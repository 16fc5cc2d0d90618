"""The simulated model as a process of its own."""

from __future__ import annotations

import os
import signal
from typing import Any

import click
import trio

from chatcluster.errors import ConfigError
from chatcluster.llm.simulator.server import SimulatorOptions, serve


async def simulate(*, ready_fd: int | None, **fields: Any) -> None:
    """Run it until a signal ends it, and say where it answers. Raises ``ConfigError`` where it cannot listen."""
    options = SimulatorOptions(**fields)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            try:
                url = await nursery.start(serve, options)
            except OSError as error:
                raise ConfigError(f"cannot listen on {options.host} port {options.port}: {error.strerror}") from None
            except UnicodeError:
                raise ConfigError(f"cannot listen on {options.host}: it is no host name") from None
            if ready_fd is None:
                click.echo(f"A simulated model answers at {url}")
            else:
                port = int(url.removesuffix("/v1").rpartition(":")[2])
                os.write(ready_fd, b'{"port":%d}\n' % port)
            async for _ in signals:
                nursery.cancel_scope.cancel()
