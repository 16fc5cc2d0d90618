"""From a run to the turn that it is told of.

* a thread that there is not yet becomes a chat, with the messages that are given, whose last one is answered;
* a user's message at the end is the next one of its chat, with all the results before it that the chat waits for. Busy,
  the chat refuses it. One that was sent before, known by its ID, is told the answer that it began;
* results of the page's tools at the end, and ``resume``, also behind a message that was sent before, answer calls that
  the chat waits for;
* a run that says nothing new, or what was said before, is told the last turn, from its beginning on.

The server's history is the truth: of the messages only what is new is read once there is a chat.
"""

from __future__ import annotations

from typing import NamedTuple

from chatcluster.chat import Busy, Send, Status
from chatcluster.errors import InvalidRequest
from chatcluster.parts import NewMessage, Role
from chatcluster.ports import Chat, Outcome
from chatcluster.turn_log import TurnStart
from chatcluster.web.doors.ag_ui.bodies import RunAgent, before_the_answer, replies, results_in, said, shown
from chatcluster.web.doors.ag_ui.event_fold import Run
from chatcluster.web.doors.answering import answer_behind, go_on
from chatcluster.web.doors.beginning import Said, begin, check_wishes, configure, idempotency_of, parts_of
from chatcluster.web.doors.named_chats import checked_name, find_chat, named_id
from chatcluster.web.request import ApiRequest


class Begun(NamedTuple):
    chat: Chat
    start: TurnStart
    run: Run


async def begin_run(request: ApiRequest, data: RunAgent) -> Begun:
    """Raises ``ChatBusy``, ``InvalidRequest``, and what transitions raise."""
    name = checked_name(data.thread_id)
    await check_wishes(request, data.wishes)
    chat, last = await find_chat(request, name), said(data.messages[-1])
    if chat is None:
        messages = [one for one in map(said, data.messages) if one is not None]
        chat_id = named_id(request.user.user_id, name)
        return _begun(data, await begin(request, chat_id, messages, data.wishes))
    if last is not None and last.role is Role.USER and not (data.resume and await _was_sent(request, chat, last)):
        return _begun(data, await _send(request, data, chat, last))
    given = replies(data)
    if given and (data.resume or chat.status is Status.REQUIRES_ACTION):
        gone = await go_on(request, chat, given, given)
        if not gone.anew:
            prefix = f"{_prefix(gone.start.message_id)}_{gone.start.version}"
            return Begun(gone.chat, gone.start, Run(data.thread_id, data.run_id, prefix, shown(data.messages)))
        chat = gone.chat
    return await _again(request, data, chat)


async def _was_sent(request: ApiRequest, chat: Chat, last: Said) -> bool:
    idempotency = await idempotency_of(request, chat.id, last)
    return idempotency is not None and await request.services.store.answered(chat.owner_id, idempotency) is not None


async def _send(request: ApiRequest, data: RunAgent, chat: Chat, last: Said) -> Outcome:
    parts, model = await parts_of(request, last), data.wishes.model
    await configure(request, chat, data.wishes)
    message = NewMessage(Role.USER, parts, model=model)
    command = await answer_behind(request, chat, lambda: results_in(data.messages), message)
    return await request.services.transitions.apply(
        chat.id,
        command or Send(parts, Busy.REJECT, model),
        owner_id=chat.owner_id,
        idempotency=await idempotency_of(request, chat.id, last),
    )


def _begun(data: RunAgent, outcome: Outcome) -> Begun:
    message = outcome.message
    assert message is not None, "a message is what it is about"
    run = Run(data.thread_id, data.run_id, _prefix(message.id), shown(data.messages))
    return Begun(outcome.chat, TurnStart(message.id, message.revision), run)


async def _again(request: ApiRequest, data: RunAgent, chat: Chat) -> Begun:
    asked = await request.services.readers.logs.responses.asked(chat.id)
    if asked is None:
        raise InvalidRequest("this chat has no message of a user yet", param="messages")
    start = TurnStart(asked.message_id, asked.revision, chat.snapshot_version)
    kept = shown(before_the_answer(data.messages))
    more = data.messages[len(kept) :]
    run = Run(data.thread_id, data.run_id, _prefix(asked.message_id), kept, begins_anew=True, more=more)
    return Begun(chat, start, run)


def _prefix(message_id: int) -> str:
    return f"answer_{message_id:x}"
