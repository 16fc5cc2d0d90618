"""Known bugs in what servers of tools ask the user, to plant (P7): the simulation has to find them. See ``planted``."""

from __future__ import annotations

from collections.abc import Callable

from chatcluster.call_questions import CallQuestions
from chatcluster.chat import AnswerQuestions, decisions
from chatcluster.chat.draft import Draft
from simulation.planted_harms import Patch


def forgotten_replies() -> list[Patch]:
    """Whoever answers a question is told that it is done, and it is not."""

    def forget(draft: Draft, command: AnswerQuestions) -> None:
        """The call waits on."""

    return [(decisions, "_HANDLERS", {**decisions._HANDLERS, AnswerQuestions: forget})]


def cancelled_in_secret() -> list[Patch]:
    """A server is told that nobody answered, and the ledger goes on asking."""
    commit = CallQuestions.commit

    async def cancel_first(self: CallQuestions) -> None:
        while self._overdue:
            _, asked = self._overdue.popleft()
            self._reply(asked, None)
        await commit(self)

    return [(CallQuestions, "commit", cancel_first)]


WITH_QUESTIONS: tuple[Callable[[], list[Patch]], ...] = (forgotten_replies, cancelled_in_secret)
