"""From what a client submits to the turn that it is told of.

* a chat that there is not yet begins with the messages that are given, and answers the last one;
* a user's message is the next one of its chat, with the outputs before it that the chat waits for. Busy, the chat
  refuses it;
* with ``messageId`` it takes the place of an earlier one, and of all that came after that. A message that is named so
  itself, and whose answer is under way, is a repeat;
* ``regenerate-message`` asks anew what was asked, or what the client has made of that; a chat that never got that
  message is asked it now;
* an assistant's message, at the end, brings outputs of the client's tools, and answers to approvals. What was answered
  before counts; the client is told how the turn goes on.

The server's history is the truth: of the messages that a client has, only the last one is read once there is a chat. A
repeat of a message, known by its ID, attaches to the turn that the first one began.
"""

from __future__ import annotations

from typing import NamedTuple

from chatcluster.chat import Busy, Edit, Send, Status
from chatcluster.errors import IdempotencyKeyReused, InvalidRequest
from chatcluster.parts import Message, NewMessage, Parts, Role, text_of
from chatcluster.ports import VERSION_MAX, Chat, Outcome
from chatcluster.turn_log import TurnStart
from chatcluster.web.doors.ai_sdk.bodies import SubmitChat
from chatcluster.web.doors.ai_sdk.ids import answer_id, message_of
from chatcluster.web.doors.ai_sdk.ui_messages import place_of_last, replies, said, text_in
from chatcluster.web.doors.answering import answer_behind, go_on
from chatcluster.web.doors.beginning import Said, begin, check_wishes, configure, idempotency_of, parts_of
from chatcluster.web.doors.named_chats import checked_name, find_chat, named_id
from chatcluster.web.request import ApiRequest

AT_REST = (Status.WAITING, Status.ERROR)


class Asked(NamedTuple):
    """What a client is told of: a turn, from ``start`` on, as the message ``answer_id``. ``anew``: it may have been
    told some of it before."""

    chat: Chat
    start: TurnStart
    answer_id: str
    anew: bool = False


async def ask(request: ApiRequest, data: SubmitChat) -> Asked:
    """Begin a turn, or go on with one. Raises ``ChatBusy``, and what transitions raise."""
    name = checked_name(data.id)
    await check_wishes(request, data.wishes)
    chat = await find_chat(request, name)
    if chat is None:
        messages = [one for one in map(said, data.given) if one is not None]
        return _asked(await begin(request, named_id(request.user.user_id, name), messages, data.wishes))
    if data.last["role"] == "assistant" and not data.asks_again:
        return await _go_on(request, data, chat)
    await configure(request, chat, data.wishes)
    return await (_ask_again(request, data, chat) if data.asks_again else _ask_next(request, data, chat))


async def _go_on(request: ApiRequest, data: SubmitChat, chat: Chat) -> Asked:
    asked = await request.services.readers.logs.responses.asked(chat.id)
    given = replies(data.last)
    answers = {call_id: reply for call_id, reply in given.items() if reply is not None}
    gone = await go_on(request, chat, answers, given)
    name = str(data.last.get("id")) if asked is None else answer_id(asked.message_id)
    return Asked(gone.chat, gone.start, name, gone.anew)


def _asked(outcome: Outcome) -> Asked:
    message = outcome.message
    assert message is not None, "a message is what it is about"
    return Asked(outcome.chat, TurnStart(message.id, message.revision), answer_id(message.id), outcome.replayed)


# --- the chat that there is -------------------------------------------------------------------


async def _ask_next(request: ApiRequest, data: SubmitChat, chat: Chat) -> Asked:
    last = said(data.last)
    if last is None or last.role is not Role.USER:
        raise InvalidRequest("the last message is not a user's", param="messages")
    parts = await parts_of(request, last)
    if data.message_id is not None and (sent := await _under_way(request, data, chat, last)) is not None:
        return _asked(sent)
    replaced = None if data.message_id is None else await _replaced(request, data, chat)
    if replaced is not None:
        return await _edit(request, chat, replaced, parts, data.model)
    message = NewMessage(Role.USER, parts, model=data.model)
    command = await answer_behind(request, chat, lambda: replies(data.before_last), message)
    outcome = await request.services.transitions.apply(
        chat.id,
        command or Send(parts, Busy.REJECT, data.model),
        owner_id=chat.owner_id,
        idempotency=await idempotency_of(request, chat.id, last),
    )
    return _asked(outcome)


async def _under_way(request: ApiRequest, data: SubmitChat, chat: Chat, last: Said) -> Outcome | None:
    """What this very message began, if that goes on still. A page that sends again what broke off (``sendMessage()``
    without a message) names it as one that takes its own place."""
    if data.message_id != last.id or chat.status in AT_REST:
        return None
    idempotency = await idempotency_of(request, chat.id, last)
    try:
        sent = None if idempotency is None else await request.services.store.answered(chat.owner_id, idempotency)
    except IdempotencyKeyReused:  # it was changed
        return None
    if sent is None or sent.message is None:
        return None
    newest = await request.services.readers.logs.responses.asked(chat.id)
    return sent if newest is not None and newest.message_id == sent.message.id else None


async def _ask_again(request: ApiRequest, data: SubmitChat, chat: Chat) -> Asked:
    replaced = await _replaced(request, data, chat)
    if replaced is None:
        return await _ask_next(request, data, chat)
    page = await request.services.store.read_messages(
        chat.id, after_version=0, after_id=replaced - 1, up_to_version=VERSION_MAX, limit=1, bytes_max=1
    )
    if not page.messages or page.messages[0].id != replaced:
        raise InvalidRequest("there is no such message in this chat (any more)", param="messageId")
    parts = await _parts_meant(request, data, chat, page.messages[0])
    return await _edit(request, chat, replaced, parts, data.model)


async def _parts_meant(request: ApiRequest, data: SubmitChat, chat: Chat, found: Message) -> Parts:
    """What is asked again: mostly what was asked, but clients may have changed it before.

    It takes away all that follows it. So where it is something else than was found, or the one message that is sent may
    be another one with the same words, it has to be clear that the client means this message."""
    asked = [one for one in data.messages or () if one.get("role") == "user"]
    meant = said(asked[-1]) if asked else None
    is_same = meant is None or text_in(asked[-1]) == text_of(found.parts)
    if is_same and len(asked) != 1:
        return found.parts
    if not await _is_clear(request, data, chat, found):
        raise InvalidRequest(
            "the messages are not those of this chat, so it is not clear which is asked again: send all of them, or "
            "messageId as GET /api/ai/chat/{id} has it",
            param="messages",
        )
    return found.parts if is_same or meant is None else await parts_of(request, meant)


async def _is_clear(request: ApiRequest, data: SubmitChat, chat: Chat, found: Message) -> bool:
    if message_of(data.message_id) is not None:
        return True
    since, _ = place_of_last(data.messages or ())
    if since:
        return await _has(request, chat, since)
    newest = await request.services.readers.logs.responses.asked(chat.id)
    return newest is not None and newest.message_id == found.id


async def _has(request: ApiRequest, chat: Chat, message_id: int) -> bool:
    """Whether this is a message of the chat's user. What a client knows may be of another chat, or edited away."""
    found = await request.services.readers.logs.responses.asked(chat.id, 0, since=message_id)
    return found is not None and found.message_id == message_id


async def _replaced(request: ApiRequest, data: SubmitChat, chat: Chat) -> int | None:
    """The user's message that is meant: by our ID of it or of its answer, else by its place behind the newest message
    that is known by one, as a client may have sent the last of its messages alone; among all of them, where that one is
    not in this chat."""
    known = message_of(data.message_id)
    if known is not None:
        return known
    responses = request.services.readers.logs.responses
    if data.messages is None:
        found = await responses.asked(chat.id)
    else:
        since, number = place_of_last(data.messages)
        if since and not await _has(request, chat, since):
            since, number = 0, max(0, sum(one.get("role") == "user" for one in data.messages) - 1)
        found = await responses.asked(chat.id, number, since=since)
    return None if found is None else found.message_id


async def _edit(request: ApiRequest, chat: Chat, message_id: int, parts: Parts, model: str | None) -> Asked:
    command = Edit(message_id, parts, model)
    return _asked(await request.services.transitions.apply(chat.id, command, owner_id=chat.owner_id))
