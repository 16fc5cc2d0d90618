"""A call under way at an MCP server: what it tells, and how long it may still take."""

from __future__ import annotations

from functools import partial

from chatcluster.call_time import CallTime
from chatcluster.chat.questions import Replies
from chatcluster.ports import Progressed, Tell, Tool
from chatcluster.ports.toolbox import Asked
from chatcluster.tools.mcp_link import LinkSession
from chatcluster.tools.mcp_wire import Asking, Progress, questions_of

WAITS_TEXT = "waits for another call of this server to end"


class RunningCall:
    def __init__(self, tool: Tool, progressed: Tell) -> None:
        self.time = CallTime(tool)
        self._progressed = progressed

    def told(self, session: LinkSession, news: Progress | Asking) -> None:
        if isinstance(news, Progress):
            self._tell(Progressed(news.progress, news.total, news.message))
        elif questions := questions_of(news.questions):
            self.time.stand_still()
            self._progressed(Asked(questions, partial(self._answer, session, news)))
        else:
            self.time.go_on()
            self._progressed(Asked((), _nobody_hears))

    def _answer(self, session: LinkSession, asking: Asking, replies: Replies) -> None:
        self.time.go_on()
        session.answer(asking, replies)

    def waits(self) -> None:
        """For another call of its server to end."""
        self._tell(Progressed(0.0, None, WAITS_TEXT))

    def _tell(self, progress: Progressed) -> None:
        self.time.begin_anew()
        self._progressed(progress)


def _nobody_hears(_: Replies) -> None:
    """The server asks no longer."""
