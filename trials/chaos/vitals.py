"""How the replicas are: their longest step and their memory, as their own metrics tell them.

A replica that is killed takes its figures with it, so they are read again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import httpx
import trio

LOOP_WATCH = {"CHATCLUSTER_LOOP_WATCH": "true"}
"""What makes replicas measure themselves."""
STEP_SECONDS_MAX = 0.05
MEMORY_BYTES_MAX = 300 << 20
POLL_SECONDS = 0.5
READ_SECONDS_MAX = 2.0
STEP, MEMORY = "chatcluster_loop_longest_step_seconds", "chatcluster_memory_max_bytes"


class Vitals:
    """``watch`` reads the metrics; ``summary`` tells the worst that was read."""

    def __init__(self) -> None:
        self.step_seconds_max = 0.0
        self.memory_bytes_max = 0.0

    async def watch(self, urls: Callable[[], Iterable[str]]) -> None:
        """Read those of the replicas at ``urls()`` until cancelled."""
        async with httpx.AsyncClient(timeout=READ_SECONDS_MAX) as http:
            while True:
                await self._read_all(http, urls())
                await trio.sleep(POLL_SECONDS)

    async def _read_all(self, http: httpx.AsyncClient, urls: Iterable[str]) -> None:
        for url in list(urls):
            try:
                answer = await http.get(f"{url}/metrics")
            except httpx.HTTPError:
                continue  # it was killed, frozen or left alone by a fault: the next round asks who is there
            self.take(answer.text)

    def take(self, metrics: str) -> None:
        values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith((STEP, MEMORY)))
        self.step_seconds_max = max(self.step_seconds_max, float(values.get(STEP, 0)))
        self.memory_bytes_max = max(self.memory_bytes_max, float(values.get(MEMORY, 0)))

    @property
    def violations(self) -> int:
        return (self.step_seconds_max > STEP_SECONDS_MAX) + (self.memory_bytes_max > MEMORY_BYTES_MAX)

    def summary(self) -> dict[str, float]:
        return {
            "longest_loop_step_seconds": round(self.step_seconds_max, 4),
            "largest_memory_of_a_replica_mb": round(self.memory_bytes_max / (1 << 20), 1),
            "vitals_out_of_bounds": self.violations,
        }
