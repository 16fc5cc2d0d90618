"""What an MCP server asks the user of a call (elicitation), in the MCP process: as what chatcluster asks, and back.

A server of the new era ends a call with what it asks. One of the old era asks in a request of its own, while it holds a
call. Which call that is the request does not say, but the way that it comes may:

* It comes with the answer to a call's own request, as streamable HTTP has it: then it is of that call (``OF_CALL``).
* It comes aside, by the one stream of SSE or by the session's own: then it is of the only call of its session. That is
  seen to by the replica, which is told of such servers and gives them one call at a time (``mcp_sessions.py``).
* It comes aside where several calls are under way, as happens before the replica is told, or one was given up that the
  server may still be at: then nobody knows. Whatever the user said might be about another deed than the one it is
  taken for. So it waits until only one is left, for ``UNCLEAR_SECONDS``; else the server hears that the user cancelled,
  and those calls say so in their results.

A call asks one thing at a time; further questions wait. A question outside of calls is declined, and what a call still
asks when it ends is cancelled. Where the server withdraws its question, the replica is told. Questions are bounded: so
many bytes, so many that wait at a time, so many of a call. What is beyond is declined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from itertools import count
from typing import Any

import mcp_types as types
import msgspec
import trio

from chatcluster.chat.questions import Question, Replies, Reply, encoded
from chatcluster.content import storable
from chatcluster.json_bounds import bounded
from chatcluster.tools.mcp_wire import Asking, OneAtATime

QUESTIONS_MAX = 16
QUESTIONS_BYTES_MAX = 64 << 10
QUESTIONS_OF_CALL_MAX = 100
"""The most questions of a server that holds the request: each is written into the ledger."""
RESUME_BYTES_MAX = 64 << 10
MESSAGE_CHARS_MAX = 4000
URL_CHARS_MAX = 2000
KEY_CHARS_MAX = 200
UNCLEAR_SECONDS = 5.0
SAY_SECONDS = 1.0
"""The time for a word to the replica."""

OF_CALL: ContextVar[int | None] = ContextVar("of_call", default=None)
"""The call whose request this task is about: the SDK has what comes with an answer handled in the context of whoever
sent the request."""
DECLINED, CANCELLED = (types.ElicitResult(action=action) for action in ("decline", "cancel"))


class LiveQuestions:
    """The questions of the calls of one session. ``say`` tells the replica."""

    def __init__(self, open_id: int, say: Callable[[Asking | OneAtATime], Awaitable[None]]) -> None:
        self._open_id = open_id
        self._say = say
        self._numbers = count(1)
        self._calls: dict[int, int | None] = {}
        """The calls under way, with the number of what each asks."""
        self._has_left = False
        """The server may still be at a call that is under way no longer."""
        self._unclear: set[int] = set()
        """Calls of which one has asked what nobody was asked."""
        self._changed = trio.Event()
        self._waiting = 0
        self._has_asked_aside = False
        self._asked: Counter[int] = Counter()
        self._answers: dict[int, Replies] = {}
        self._over: dict[int, trio.Event] = {}
        """When a question is answered, or its call has ended."""

    def began(self, call_id: int) -> None:
        self._calls[call_id] = None

    def ended(self, call_id: int, *, may_go_on: bool) -> bool:
        """``may_go_on``: at the server. Whether the call may have asked what nobody was asked."""
        number = self._calls.pop(call_id)
        del self._asked[call_id]
        self._has_left |= may_go_on
        if number is not None:
            self._over[number].set()
        self._tell_changed()
        is_unclear = call_id in self._unclear
        self._unclear.discard(call_id)
        return is_unclear

    async def ask(self, params: types.ElicitRequestParams) -> types.ElicitResult:
        """What the user says, however long that takes."""
        question = question_of(f"question-{next(self._numbers)}", params)
        if question is None or not self._calls or self._waiting == QUESTIONS_MAX:
            return DECLINED
        self._waiting += 1
        try:
            return await self._ask(question)
        finally:
            self._waiting -= 1

    async def _ask(self, question: Question) -> types.ElicitResult:
        call_id = OF_CALL.get()
        if call_id is None:
            call_id = await self._only_call()
        if call_id is None or not await self._is_silent(call_id):
            return CANCELLED
        self._asked[call_id] += 1
        if self._asked[call_id] > QUESTIONS_OF_CALL_MAX:
            return DECLINED
        reply = (await self._ask_for(call_id, question)).get(question.key)
        return CANCELLED if reply is None else elicited(reply)

    async def _only_call(self) -> int | None:
        """The one that is under way. None if there are others, and stay."""
        if not self._has_asked_aside:
            self._has_asked_aside = True
            await self._say(OneAtATime(self._open_id))
        with trio.move_on_after(UNCLEAR_SECONDS):
            while len(self._calls) > 1 and not self._has_left:
                await self._changed.wait()
        if len(self._calls) == 1 and not self._has_left:
            return next(iter(self._calls))
        self._unclear.update(self._calls)
        return None

    async def _is_silent(self, call_id: int) -> bool:
        """Return once the call asks nothing else. False if it has ended."""
        while self._calls.get(call_id) is not None:
            await self._changed.wait()
        return call_id in self._calls

    async def _ask_for(self, call_id: int, question: Question) -> Replies:
        """The answer; none if the call ends without one."""
        number = self._calls[call_id] = next(self._numbers)
        over = self._over[number] = trio.Event()
        try:
            await self._say(Asking(call_id, number, encoded([question]).encode()))
            await over.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SAY_SECONDS):
                await self._say(Asking(call_id, number, encoded(()).encode()))
            raise
        finally:
            del self._over[number]
            replies = self._answers.pop(number, {})
            if call_id in self._calls:
                self._calls[call_id] = None
                self._tell_changed()
        return replies

    def answer(self, number: int, replies: Replies) -> None:
        """The user's answer; one that comes too late is nobody's."""
        if number in self._over:
            self._answers[number] = replies
            self._over[number].set()

    def _tell_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def question_of(key: str, params: types.ElicitRequestParams) -> Question | None:
    """None for what is too large, or leads to no web page."""
    message = storable(params.message)[:MESSAGE_CHARS_MAX]
    if isinstance(params, types.ElicitRequestURLParams):
        url = storable(params.url)
        is_one = url.lower().startswith(("https://", "http://")) and len(url) <= URL_CHARS_MAX
        return Question(key, message, url=url) if is_one else None
    schema = _storable_schema(params.requested_schema)
    return None if schema is None else Question(key, message, schema)


def _storable_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        text = msgspec.json.encode(dict(schema)).decode()
        if len(text) > QUESTIONS_BYTES_MAX:
            return None
        storable_text = text.replace("\\u0000", "\\ufffd").encode()
        decoded: dict[str, Any] = msgspec.json.decode(bounded(storable_text), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, ValueError, TypeError):
        return None
    return decoded


def required(requests: Mapping[str, Any]) -> tuple[Question, ...] | None:
    """What has to be asked before the call can be gone on with; None if not all of that is for a user, or too much."""
    if len(requests) > QUESTIONS_MAX:
        return None
    questions = []
    for key, request in requests.items():
        is_fit = isinstance(request, types.ElicitRequest) and key == storable(key) and 0 < len(key) <= KEY_CHARS_MAX
        question = question_of(key, request.params) if is_fit else None
        if question is None:
            return None
        questions.append(question)
    return tuple(questions) if len(encoded(questions)) <= QUESTIONS_BYTES_MAX else None


def required_by(error_data: Any) -> tuple[Question, ...] | None:
    """What an error says that has to be done at some URL first."""
    try:
        found = types.ElicitationRequiredErrorData.model_validate(error_data)
    except ValueError:
        return None
    return required({f"url-{n}": types.ElicitRequest(params=params) for n, params in enumerate(found.elicitations, 1)})


def elicited(reply: Reply) -> types.ElicitResult:
    return types.ElicitResult(action=reply.action.value, content=reply.content)
