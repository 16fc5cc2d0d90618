"""Forks: a new chat with the history of another one up to some point.

A fork is a copy, made by the one transaction that creates the new chat, and at rest. It has whole turns only: it ends
before a user's message, or where the chat rests. Its chat's title, model, prompt, tools and files are those of the
original; what the original spends, or becomes, is nothing to it.

The history is copied in the database, and may have as many bytes as a chat may have. One that was rewritten since it
was looked at is not mixed with what it was: ``Conflict``. Summaries stay behind, with the calls that made them: they
name messages of the original. The model is told the whole history, which is summarised anew if that is too long.
"""

from __future__ import annotations

from uuid import uuid4

from chatcluster.chat import setup_of
from chatcluster.errors import MessageNotFound, NotTurnEnd
from chatcluster.ports import VERSION_MAX, Chat, NewChat, Store
from chatcluster.ports.forks import HistoryCopy


async def fork_of(store: Store, chat: Chat, message_id: int | None, system_prompt: str) -> NewChat:
    """The chat to be made. ``message_id``: the last message that it has; None: all whole turns.

    Raises ``MessageNotFound`` and ``NotTurnEnd``. That the history was rewritten meanwhile is found when the chat is
    made."""
    end = await _end_of(store, chat, message_id)
    return NewChat(
        id=uuid4(),
        owner_id=chat.owner_id,
        **setup_of(chat),
        messages=(),
        system_prompt=system_prompt,
        at_rest=True,
        copied=HistoryCopy(chat.id, end, chat.reset_version),
    )


async def _end_of(store: Store, chat: Chat, message_id: int | None) -> int:
    """The last message that the fork has; 0: none."""
    is_there, before, end = await store.turn_ends(chat.id, VERSION_MAX if message_id is None else message_id)
    if message_id is None:
        return end or before or 0
    if not is_there:
        raise MessageNotFound("there is no such message in this chat")
    if end != message_id:
        raise NotTurnEnd("a fork has whole turns: name the last message of one", before=before, after=end)
    return message_id
