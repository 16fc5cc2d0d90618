"""What a response goes on from: one of before, or all of a conversation; and where in its chat that ends."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from chatcluster.chat import CallState, Status
from chatcluster.errors import ChatNotFound, InvalidRequest
from chatcluster.ports import Action, Chat, NewChat
from chatcluster.ports.forks import HistoryCopy
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.doors.openai.ids import message_of, no_such_conversation, parse_conversation_id
from chatcluster.web.doors.openai.response_bodies import WantedResponse, about
from chatcluster.web.doors.openai.telling import read_response, stored_response
from chatcluster.web.request import ApiRequest


class Past(NamedTuple):
    """``stored`` is the response before it; None: all of the chat."""

    chat: Chat
    stored: StoredResponse | None = None

    @property
    def is_transient(self) -> bool:
        return self.stored is not None and self.stored.transient

    def copied_into(self, chat: NewChat, end: int) -> NewChat:
        """A new chat with what was said before this message."""
        return msgspec.structs.replace(chat, copied=HistoryCopy(self.chat.id, end - 1, self.chat.reset_version))


async def past_of(request: ApiRequest, data: WantedResponse) -> Past | None:
    """Raises ``ResponseNotFound`` and ``ConversationNotFound``, also for what is somebody else's."""
    if data.previous_response_id is not None:
        with about("previous_response_id"):
            stored = await stored_response(request, data.previous_response_id)
            return Past(await request.services.store.get(stored.chat_id), stored)
    if data.conversation_id is None:
        return None
    with about("conversation"):
        return Past(await owned_conversation(request, data.conversation_id))


async def owned_conversation(request: ApiRequest, text: str) -> Chat:
    """Raises ``ConversationNotFound``, in the same words whether there is none or it is somebody else's."""
    with suppress(ChatNotFound):
        chat = await request.services.store.get(parse_conversation_id(text))
        if chat.owner_id == request.user.user_id:
            return chat
    raise no_such_conversation(text)


async def waiting_in(request: ApiRequest, chat: Chat) -> Sequence[Action]:
    """The calls that the chat waits for."""
    return await request.services.store.actions(chat.id) if chat.status is Status.REQUIRES_ACTION else ()


def require_outputs(waiting: Sequence[Action], given: Collection[str]) -> None:
    """Raises ``InvalidRequest`` if the output of a call of the client's is missing."""
    _require_all([one.call_id for one in waiting if one.kind is CallState.CLIENT], given)


async def end_of(request: ApiRequest, past: Past, *, answers: Collection[str] = ()) -> int | None:
    """The first message behind the response, where its chat has gone on since; None for the last turn. ``answers``:
    the calls whose outputs are given, if nobody waits for them: those of the response were answered otherwise before.

    What somebody steered into the turn of the response is a part of it. Raises ``InvalidRequest``."""
    if past.stored is None:
        return None
    responses = request.services.readers.logs.responses
    end = await responses.asked_after(past.chat.id, message_of(past.stored.message_id))
    if end is None and not answers:
        return None
    fold = await read_response(request, past.stored)
    if answers and fold.is_over and fold.clients_calls:
        _require_all(fold.clients_calls, answers)
        return fold.last_id + 1
    if end is None or fold.last_id < end:
        return end
    return await responses.asked_after(past.chat.id, fold.last_id)


def _require_all(call_ids: Collection[str], given: Collection[str]) -> None:
    missing = next((call_id for call_id in call_ids if call_id not in given), None)
    if missing is not None:
        raise InvalidRequest(f"No tool output found for function call {missing}.", param="input")
