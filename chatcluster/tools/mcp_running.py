"""A call under way at an MCP server: what it tells, and how long it may still take."""

from __future__ import annotations

from functools import partial

from chatcluster.call_time import CallTime
from chatcluster.ports import Asked, Progressed, Tell, Tool
from chatcluster.tools.mcp_link import LinkSession
from chatcluster.tools.mcp_wire import Asking, Progress, questions_of

WAITS_TEXT = "waits for another call of this server to end"


class RunningCall:
    """``has_begun``: there is a session for it, so the server may know of it."""

    def __init__(self, tool: Tool, progressed: Tell) -> None:
        self.time = CallTime(tool)
        self.has_begun = False
        self._progressed = progressed

    def told(self, session: LinkSession, news: Progress | Asking) -> None:
        if isinstance(news, Progress):
            self._tell(Progressed(news.progress, news.total, news.message))
        else:
            self._tell(Asked(questions_of(news.questions), partial(session.answer, news)))

    def waits(self) -> None:
        """Tell that the call waits for another call of its server to end."""
        self._tell(Progressed(0.0, None, WAITS_TEXT))

    def _tell(self, news: Progressed | Asked) -> None:
        self._progressed(self.time.heard(news))
