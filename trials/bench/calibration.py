"""How quick the machine is right now: three things whose cost no change of ours moves, measured beside every figure.

A slow day, or a busy neighbour, shows here as well as in the figures; then it is no regression.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable

from bench.servers import Servers

LOOP_ROUNDS = 200_000
EXCHANGES = 200
COMMITS = 40
REPEATS = 5


async def calibrate(servers: Servers) -> dict[str, float]:
    """``python_ms``: a fixed loop of pure Python. ``commit_ms``: a row inserted and committed with fsync, over a
    connection that is open. ``redis_ms``: a request to Redis and its reply. Each is the median of several, and all
    together take about a tenth of a second.
    """
    return {
        "python_ms": statistics.median(_python_ms() for _ in range(REPEATS)),
        "commit_ms": await _median_ms(servers.commit, COMMITS),
        "redis_ms": await _median_ms(lambda: servers.cache.exchange([("PING",)]), EXCHANGES),
    }


def _python_ms() -> float:
    began = time.perf_counter()
    total = 0
    for number in range(LOOP_ROUNDS):
        total += number & 7
    return (time.perf_counter() - began) * 1000


async def _median_ms(act: Callable[[], Awaitable[object]], times: int) -> float:
    samples = []
    for _ in range(times):
        began = time.perf_counter()
        await act()
        samples.append((time.perf_counter() - began) * 1000)
    return statistics.median(samples)
