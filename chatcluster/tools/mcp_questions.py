"""What an MCP server asks the user of a call (elicitation), in the MCP process: as what chatcluster asks, and back.

A server of the old era asks in a request of its own, while it holds a call. Which call that is it does not say, so the
first of those under way in the session counts that asks nothing yet; there is one, as a rule, and in any case they are
all of one chat. Where that one has its result while the question waits, the question was another's: it is asked anew,
for the next. A question outside of calls is declined. A server of the new era ends a call with what it asks.

Questions are bounded in number and bytes; what is beyond is declined.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from typing import Any

import mcp_types as types
import msgspec
import trio

from chatcluster.chat.questions import Question, Replies, Reply, encoded
from chatcluster.content import storable
from chatcluster.json_bounds import bounded
from chatcluster.tools.mcp_wire import Asking

QUESTIONS_MAX = 16
QUESTIONS_BYTES_MAX = 64 << 10
RESUME_BYTES_MAX = 64 << 10
MESSAGE_CHARS_MAX = 4000
URL_CHARS_MAX = 2000
KEY_CHARS_MAX = 200

DECLINED, CANCELLED = (types.ElicitResult(action=action) for action in ("decline", "cancel"))


class LiveQuestions:
    """Those of the calls of one session. ``say`` tells the replica."""

    def __init__(self, say: Callable[[Asking], Awaitable[None]]) -> None:
        self._say = say
        self._numbers = count(1)
        self._calls: dict[int, int | None] = {}
        """The calls under way, with the number of what each asks."""
        self._answers: dict[int, Replies] = {}
        self._over: dict[int, trio.Event] = {}
        """When a question is answered, or its call has ended."""

    def began(self, call_id: int) -> None:
        self._calls[call_id] = None

    def ended(self, call_id: int, *, is_given_up: bool) -> None:
        """``is_given_up``: by us, and what it asked with it."""
        number = self._calls.pop(call_id, None)
        if number is None:
            return
        if is_given_up:
            self._answers[number] = {}
        self._over[number].set()

    async def ask(self, params: types.ElicitRequestParams) -> types.ElicitResult:
        """What the user says, however long that takes."""
        question = question_of(f"question-{next(self._numbers)}", params)
        otherwise = DECLINED
        while question is not None and (call_id := self._silent_call()) is not None:
            replies = await self._ask_for(call_id, question)
            if replies is not None:
                reply = replies.get(question.key)
                return CANCELLED if reply is None else elicited(reply)
            otherwise = CANCELLED
        return otherwise

    def _silent_call(self) -> int | None:
        return next((call_id for call_id, asks in self._calls.items() if asks is None), None)

    async def _ask_for(self, call_id: int, question: Question) -> Replies | None:
        """The answer; None if the call has its result without one."""
        number = self._calls[call_id] = next(self._numbers)
        over = self._over[number] = trio.Event()
        try:
            await self._say(Asking(call_id, number, encoded([question]).encode()))
            await over.wait()
        finally:
            del self._over[number]
            replies = self._answers.pop(number, None)
            if call_id in self._calls:
                self._calls[call_id] = None
        return replies

    def answer(self, number: int, replies: Replies) -> None:
        """The user's answer; one that comes too late is nobody's."""
        if number in self._over:
            self._answers[number] = replies
            self._over[number].set()


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
