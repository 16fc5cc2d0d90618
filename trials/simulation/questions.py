"""Tools of the simulated world that ask the user for a word before they take effect, and the judge of that (P7).

``sign`` ends its request with the question, and may ask twice; ``swear`` and ``wonder`` hold the request meanwhile.
Checked at once:

* the server of a call hears what somebody said to that very call, and nothing else;
* it hears that the user cancelled only when the ledger asks nothing any more: no answer is taken that nobody hears.

And in the end: a call that was answered as often as it asked was not given up for want of an answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from uuid import UUID

import trio
from checker.history import Kind

from chatcluster.chat import AnswerQuestions, CallState, ChatState, OpenCall
from chatcluster.chat.calls import NOT_ANSWERED_TEXT
from chatcluster.chat.questions import Question, Replies, Reply, ReplyAction
from chatcluster.ports import Asked, Tell

SIGN, SWEAR, WONDER = ASKING = ("sign", "swear", "wonder")
QUESTIONS_MAX = 2
KEY = "word"
QUESTION = Question(KEY, "The word?", {"type": "object", "properties": {KEY: {"type": "string"}}, "required": [KEY]})


def asks(call: OpenCall) -> bool:
    """Whether the server of a call waits for an answer, whoever holds the call meanwhile."""
    return call.asks_now or call.state is CallState.QUESTION


def accepting(word: str) -> Replies:
    return {KEY: Reply(ReplyAction.ACCEPT, {KEY: word})}


async def ask_live(tell: Tell) -> Replies:
    """What the user says, while the request is held."""
    answered = trio.Event()
    said: list[Replies] = []

    def reply(replies: Replies) -> None:
        said.append(replies)
        answered.set()

    tell(Asked((QUESTION,), reply))
    await answered.wait()
    return said[0]


class QuestionWatch:
    """``violate`` hears of each violation."""

    def __init__(self, violate: Callable[[Kind, UUID, str], None]) -> None:
        self.asked: Counter[str] = Counter()
        """How often each call began to ask something."""
        self._violate = violate
        self._taken: Counter[str] = Counter()
        self._said: dict[str, list[Reply]] = defaultdict(list)
        self._held_by: dict[str, UUID | None] = {}
        """The owners of the calls that ask while they run."""

    def changed(self, before: ChatState, after: ChatState) -> None:
        """A transition took effect."""
        asked = {call.call_id: call.digest for call in before.open_calls if asks(call)}
        for call in before.open_calls:
            self._held_by.pop(call.call_id, None)
        for call in after.open_calls:
            if call.asks_now:
                self._held_by[call.call_id] = after.worker_id
            if asks(call) and asked.get(call.call_id) != call.digest:
                self.asked[call.call_id] += 1

    def answered(self, command: AnswerQuestions) -> None:
        """An answer took effect."""
        self._taken[command.call_id] += 1
        self._said[command.call_id].append(command.replies[KEY])

    def heard(self, chat_id: UUID, call_id: str, replies: Replies, worker_id: UUID | None) -> str:
        """What the server of a call is told, by its worker; in a few words."""
        reply = replies[KEY]
        if reply.action is not ReplyAction.CANCEL and reply not in self._said[call_id]:
            self._violate(Kind.ANSWER, chat_id, f"{call_id} hears {reply}; {self._said[call_id]} was said")
        if reply.action is ReplyAction.CANCEL and worker_id is not None and self._held_by.get(call_id) == worker_id:
            self._violate(Kind.ANSWER, chat_id, f"{call_id} hears that nobody answers, and the ledger asks still")
        return f"{reply.action} {reply.content or ''}"

    def check_result(self, chat_id: UUID, call_id: str, text: str) -> None:
        if text.startswith(NOT_ANSWERED_TEXT) and self._taken[call_id] >= self.asked[call_id]:
            self._violate(Kind.ANSWER, chat_id, f"{call_id} was answered, and its result is {text[:80]!r}")
