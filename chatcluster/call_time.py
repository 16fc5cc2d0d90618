"""How long a call of a tool may take: without a sign of life ``idle_seconds``, in all ``total_seconds``.

While its server waits for the user to answer, time stands still; the ledger bounds that (``call_questions.py``).
"""

from __future__ import annotations

from math import inf

import trio

from chatcluster.ports import Asked, Printed, Progressed, Tool

News = Progressed | Printed | Asked


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
        """Whether the whole time of a call that took too long is over, and not only that without progress."""
        return self.scope.deadline >= self._over_at

    def begin_anew(self) -> None:
        """There was a sign of life."""
        if self._asked_at is None:
            self.scope.deadline = min(trio.current_time() + self._idle_seconds, self._over_at)

    def heard(self, news: News) -> News:
        """The call tells something, to be passed on."""
        if isinstance(news, Asked) and news.questions:
            self._stand_still()
            return news.with_first(self._go_on)
        if isinstance(news, Asked):
            self._go_on()
        self.begin_anew()
        return news

    def _stand_still(self) -> None:
        if self._asked_at is None:
            self._asked_at, self.scope.deadline = trio.current_time(), inf

    def _go_on(self) -> None:
        if self._asked_at is not None:
            self._over_at += trio.current_time() - self._asked_at
            self._asked_at = None
            self.begin_anew()
