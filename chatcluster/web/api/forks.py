"""The route of forks: a new chat with the history of another one."""

from __future__ import annotations

from litestar import Response, post
from litestar.params import FromPath, JSONBody

from chatcluster.errors import AgentChat
from chatcluster.forks import fork_of
from chatcluster.views import ChatAnswer, chat_answer
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.api.bodies import ForkChat
from chatcluster.web.request import ApiRequest

ALL_TURNS = ForkChat()
"""What a request without a body says."""


@post("/chats/{chat_id:str}/fork", responses=REFUSALS)
async def fork_chat(
    request: ApiRequest, chat_id: FromPath[str], data: JSONBody[ForkChat] = ALL_TURNS
) -> Response[ChatAnswer]:
    """Make a new chat with the history of this one up to a message, which ends a turn. It rests until it is sent one.

    Title, model, prompt, tools and files are kept; from then on the two have nothing to do with each other. A history
    that is longer than a chat may be is refused (`chat_full`).
    """
    store, idempotency = request.services.store, await request.idempotency()
    if idempotency is not None and (earlier := await store.answered(request.user.user_id, idempotency)) is not None:
        return Response(chat_answer(earlier.chat), status_code=201)
    chat = await request.owned_chat(chat_id)
    if chat.parent_id is not None:
        raise AgentChat("an agent works for its chat: fork that one", chat_id=str(chat.family_id))
    prompt = await request.services.models.prompts.own(chat.id)
    new = await fork_of(store, chat, data.message_id, prompt or "")
    outcome = await request.services.transitions.create(new, idempotency)
    return Response(chat_answer(outcome.chat), status_code=201)


ROUTES = [fork_chat]
