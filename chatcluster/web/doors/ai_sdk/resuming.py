"""Which answer a page is told that lost its stream, and comes back: the one under way, or one that has just ended.

It is told from its beginning on, under the ID that it had, and the SDK builds it anew: nothing is doubled, and a page
that has all of it has the same afterwards. What ended longer ago is in the messages of the chat.
"""

from __future__ import annotations

from chatcluster.ports import Chat
from chatcluster.turn_log import TurnStart
from chatcluster.web.doors.ai_sdk.asking import AT_REST, Asked
from chatcluster.web.doors.ai_sdk.ids import answer_id
from chatcluster.web.request import ApiRequest

RESUMABLE_SECONDS = 30.0
"""By then a page that lost its stream at the end of the answer has come back."""


async def resumed(request: ApiRequest, chat: Chat) -> Asked | None:
    """None: there is nothing to be told."""
    responses = request.services.readers.logs.responses
    if chat.archived or (chat.status in AT_REST and not await responses.ended_lately(chat.id, RESUMABLE_SECONDS)):
        return None
    asked = await responses.asked(chat.id)
    if asked is None:
        return None
    start = TurnStart(asked.message_id, asked.revision, chat.snapshot_version)
    return Asked(chat, start, answer_id(asked.message_id), anew=True)
