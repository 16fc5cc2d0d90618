"""Our own clock: how it stands to others, and how long it stood still."""

from __future__ import annotations

import time

import trio

PULSE_SECONDS = 0.05


class OwnClock:
    """Its times are trio's. ``wall_offset`` and ``monotonic_offset`` are what makes others of them."""

    def __init__(self) -> None:
        self.wall_offset = time.time() - trio.current_time()
        self.monotonic_offset = time.monotonic() - trio.current_time()
        self.pause_seconds_max = 0.0

    async def feel_pulse(self) -> None:
        """How long we stood still ourselves: what readers tell may be late by so much."""
        while True:
            due = trio.current_time() + PULSE_SECONDS
            await trio.sleep_until(due)
            self.pause_seconds_max = max(self.pause_seconds_max, trio.current_time() - due)
