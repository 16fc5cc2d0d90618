"""A call under way at an MCP server: what it tells, and how long it may still take.

It is bounded twice: by ``total_seconds``, and by ``idle_seconds``, which begin anew with whatever it tells. While its
server waits for the user both stand still; the ledger bounds that (``call_questions.py``).
"""

from __future__ import annotations

from functools import partial
from math import inf

import trio

from chatcluster.chat.questions import Replies
from chatcluster.ports import Progressed, Tell, Tool
from chatcluster.ports.toolbox import Asked
from chatcluster.tools.mcp_link import LinkSession
from chatcluster.tools.mcp_wire import Asking, Progress, questions_of

WAITS_TEXT = "waits for another call of this server to end"


class RunningCall:
    """``total`` and ``idle`` are the scopes to run it in."""

    def __init__(self, tool: Tool, progressed: Tell) -> None:
        self.total = trio.CancelScope(relative_deadline=tool.total_seconds)
        self.idle = trio.CancelScope(relative_deadline=tool.idle_seconds)
        self._tool = tool
        self._progressed = progressed

    def told(self, session: LinkSession, news: Progress | Asking) -> None:
        if isinstance(news, Asking):
            left, self.total.deadline, self.idle.deadline = self.total.deadline - trio.current_time(), inf, inf
            self._progressed(Asked(questions_of(news.questions), partial(self._go_on, session, news, left)))
        else:
            self._tell_progress(Progressed(news.progress, news.total, news.message))

    def _go_on(self, session: LinkSession, asking: Asking, left: float, replies: Replies) -> None:
        self.total.deadline = trio.current_time() + left
        self.idle.deadline = trio.current_time() + self._tool.idle_seconds
        session.answer(asking, replies)

    def waits(self) -> None:
        """For another call of its server to end."""
        self._tell_progress(Progressed(0.0, None, WAITS_TEXT))

    def _tell_progress(self, progress: Progressed) -> None:
        self.idle.deadline = trio.current_time() + self._tool.idle_seconds
        self._progressed(progress)
