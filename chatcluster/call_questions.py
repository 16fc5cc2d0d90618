"""What the servers of a step's calls ask the chat's user, on its way to the user and back.

Two ways, as the server has it (``chat/calls.py``). A server that has ended the request with its question is asked again
with the answer, by the chat's owner at that time: the ledger is told, and the call waits for the user like others. A
server that holds the request open is answered by the owner that made it: the ledger is told, the call goes on running,
and its owner looks into the ledger for the answer: whenever it hears that the chat has changed, and now and then.

Who is authoritative: the ledger, for the questions and for the answer. An answer comes to any replica.

What happens on failure: nobody answers in time: the server is told that the user cancelled, once the ledger says that
nothing is asked any longer, so that no answer is taken that nobody hears. The call ends otherwise, or the turn is
stopped: its result closes what it asks. The owner dies, or drains: a call whose server held the request has its worker
dead, or is given back, and asks nothing any more. Postgres is away: the answer comes later, within its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from chatcluster import telemetry
from chatcluster.chat import AskUser, OpenCall
from chatcluster.chat.questions import cancelled
from chatcluster.config import Settings
from chatcluster.errors import ChatclusterError
from chatcluster.held_chat import HeldChat
from chatcluster.ports import Asked, InputRequired

LOOK_SECONDS = 2.0
"""The hint of an answer may be lost, so the database is asked this often."""


class CallQuestions:
    """The questions of one step's calls. ``stir`` is called when there is something to commit."""

    def __init__(self, held: HeldChat, settings: Settings, nursery: trio.Nursery, stir: Callable[[], None]) -> None:
        self._held = held
        self._settings = settings
        self._nursery = nursery
        self._stir = stir
        self._required: dict[str, InputRequired] = {}
        self._asked: dict[str, Asked] = {}
        self._overdue: deque[tuple[str, Asked]] = deque()
        self._scopes: dict[str, trio.CancelScope] = {}

    def __repr__(self) -> str:
        return f"<CallQuestions of {len(self._scopes)} running calls>"

    @property
    def is_due(self) -> bool:
        """Whether the ledger is to be told something."""
        return bool(self._required or self._asked or self._overdue)

    def required(self, call_id: str, asked: InputRequired) -> None:
        """The server has ended the request of this call with its questions."""
        self._required[call_id] = asked

    def asked(self, call_id: str, asked: Asked) -> None:
        """The server asks while the call runs, or asks no longer. What it asked before it asks no longer either."""
        self._asked[call_id] = asked
        self._overdue = deque(due for due in self._overdue if due[0] != call_id)
        self._stop_watching(call_id)
        self._stir()

    async def commit(self) -> None:
        """Tell the ledger. Raises what commits raise."""
        while self._asked:
            call_id, asked = self._asked.popitem()
            scope = self._scopes[call_id] = trio.CancelScope()  # the call may end, or ask anew, while this is committed
            await self._held.commit(AskUser(call_id, asked.questions, None, self._settings.tools.live_answer_seconds))
            await self._held.settle_family()  # of an agent, the question is shown at the root
            if asked.questions:
                self._nursery.start_soon(self._watch, call_id, asked, scope)
        while self._overdue:
            call_id, asked = self._overdue.popleft()
            await self._held.commit(AskUser(call_id))
            call = await self._look(call_id)
            self._reply(asked, call)
        while self._required:
            call_id, required = self._required.popitem()
            seconds = self._settings.tools.answer_seconds
            await self._held.commit(AskUser(call_id, required.questions, required.resume, seconds))

    def ended(self, call_id: str) -> None:
        """The call runs no longer: the answers to its questions are not waited for any more."""
        self._asked.pop(call_id, None)
        self._stop_watching(call_id)

    def _stop_watching(self, call_id: str) -> None:
        if (scope := self._scopes.pop(call_id, None)) is not None:
            scope.cancel()

    def close(self) -> None:
        for call_id in list(self._scopes):
            self.ended(call_id)

    async def _watch(self, call_id: str, asked: Asked, scope: trio.CancelScope) -> None:
        with scope:
            with trio.move_on_after(self._settings.tools.live_answer_seconds):
                while (call := await self._look(call_id)) is None or call.asks_now:
                    with trio.move_on_after(LOOK_SECONDS):
                        await self._held.wait_look()
                self._reply(asked, call)
                return
            self._overdue.append((call_id, asked))
            self._stir()

    def _reply(self, asked: Asked, call: OpenCall | None) -> None:
        replies = None if call is None or call.inquiry is None else call.inquiry.replies
        asked.reply(cancelled(asked.questions) if replies is None else replies)

    async def _look(self, call_id: str) -> OpenCall | None:
        try:
            return next((call for call in await self._held.open_calls() if call.call_id == call_id), None)
        except ChatclusterError as error:
            telemetry.event("call.question_unread", chat_id=str(self._held.chat.id), error=str(error))
            return None
