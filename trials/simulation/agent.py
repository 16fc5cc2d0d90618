"""The agent of the simulated workspaces: it does once what it was asked for, however often, and has a ledger of it.

A call takes effect when the agent hears of it first. It goes on without anybody, and a replica that asks for it again,
under the same ID, waits for the same end: so a takeover in the middle of it is no second run.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import trio

from chatcluster.parts import TextPart
from chatcluster.ports import Progressed, ToolResult

MEAN_SECONDS = 0.8
SIGN_SECONDS = 0.5


class Job(NamedTuple):
    """A call that was begun."""

    over_at: float
    text: str


class Agent:
    """``begin`` is told of each call that takes effect, and returns what it gives."""

    def __init__(self, draw: Random) -> None:
        self._draw = draw
        self._ledger: dict[str, Job] = {}

    async def carry_out(self, call_id: str, begin: Callable[[], str], tell: Callable[[Progressed], None]) -> ToolResult:
        """Begin the call, or go on with it, to its end."""
        job = self._begun(call_id, begin)
        while (left_seconds := job.over_at - trio.current_time()) > 0:
            tell(Progressed(0, message=call_id))
            await trio.sleep(min(left_seconds, SIGN_SECONDS))
        return ToolResult((TextPart(job.text),))

    def _begun(self, call_id: str, begin: Callable[[], str]) -> Job:
        if call_id not in self._ledger:
            over_at = trio.current_time() + self._draw.expovariate(1 / MEAN_SECONDS)
            self._ledger[call_id] = Job(over_at, begin())
        return self._ledger[call_id]
