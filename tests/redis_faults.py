"""Faults of a Redis server, for tests that have one of their own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from chatcluster.local.embedded import RedisServer


@contextmanager
def frozen(server: RedisServer) -> Iterator[None]:
    """The server answers nothing. Its kernel goes on accepting connections and what is sent on them."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)
