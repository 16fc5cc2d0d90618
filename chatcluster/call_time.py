"""How long a call of a tool may take: without a sign of life ``idle_seconds``, in all ``total_seconds``.

While its server waits for the user to answer, time stands still; the ledger bounds that (``call_questions.py``).
"""

from __future__ import annotations

from math import inf

import trio

from chatcluster.ports import Tool


class CallTime:
    """``scope`` is cancelled when the time is over: the call runs within it, and begins now."""

    def __init__(self, tool: Tool) -> None:
        self._idle_seconds = tool.idle_seconds
        self._over_at = trio.current_time() + tool.total_seconds
        self._asked_at: float | None = None
        self.scope = trio.CancelScope()
        self.begin_anew()

    @property
    def is_over_in_all(self) -> bool:
        """Of a time that is over: whether it was all that there was."""
        return self.scope.deadline >= self._over_at

    def begin_anew(self) -> None:
        """There was a sign of life."""
        if self._asked_at is None:
            self.scope.deadline = min(trio.current_time() + self._idle_seconds, self._over_at)

    def stand_still(self) -> None:
        """The user is asked something."""
        if self._asked_at is None:
            self._asked_at, self.scope.deadline = trio.current_time(), inf

    def go_on(self) -> None:
        """The user has answered, or is asked no longer."""
        if self._asked_at is not None:
            self._over_at += trio.current_time() - self._asked_at
            self._asked_at = None
            self.begin_anew()
