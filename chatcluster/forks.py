"""Forks: a new chat with the history of another one up to some point.

A fork is a copy, made by the one transaction that creates the new chat, and at rest. It has whole turns only: it ends
before a user's message, or where the chat rests. Its chat's title, model, prompt, tools and files are those of the
original; what the original spends, or becomes, is nothing to it.

The history is read in pages, and bounded: in memory it is as large as it is in the new chat. One that was rewritten
meanwhile is not mixed with what it was: ``Conflict``. Summaries stay behind, with the calls that made them: they name
messages of the original. The model is told the whole history, which is summarised anew if that is too long.
"""

from __future__ import annotations

from uuid import UUID, uuid4

import msgspec

from chatcluster.content import SummaryPart
from chatcluster.context import SUMMARY_CALL
from chatcluster.errors import ChatFull, Conflict, MessageNotFound, NotTurnEnd
from chatcluster.parts import Message, NewMessage, Role, ToolCallPart
from chatcluster.ports import VERSION_MAX, Chat, NewChat, Store

FORK_BYTES_MAX = 4 << 20
PAGE_MESSAGES, PAGE_BYTES = 200, 1 << 20
AT_REST = ("waiting", "error")


async def read_past(store: Store, chat_id: UUID) -> list[Message]:
    """The whole history. Raises ``ChatFull`` for one that is too long to be copied."""
    messages: list[Message] = []
    after, size = 0, 0
    while True:
        page = await store.read_messages(
            chat_id,
            after_version=0,
            after_id=after,
            up_to_version=VERSION_MAX,
            limit=PAGE_MESSAGES,
            bytes_max=PAGE_BYTES,
        )
        messages.extend(page.messages)
        size += len(msgspec.json.encode(page.messages))
        if size > FORK_BYTES_MAX:
            raise ChatFull(f"the history is longer than {FORK_BYTES_MAX >> 20} MiB, too long to be copied")
        if page.next_revision is None:
            return messages
        after = page.messages[-1].id


def copied(messages: list[Message]) -> tuple[NewMessage, ...]:
    """As they go into another chat, whose prompt is apart from its messages."""
    found = [_copied(one) for one in messages if one.role is not Role.SYSTEM]
    return tuple(one for one in found if one.parts)


def _copied(one: Message) -> NewMessage:
    parts = one.parts
    if any(isinstance(part, SummaryPart) for part in parts):
        parts = ()
    elif any(isinstance(part, ToolCallPart) and part.name == SUMMARY_CALL for part in parts):
        parts = tuple(part for part in parts if not (isinstance(part, ToolCallPart) and part.name == SUMMARY_CALL))
    return NewMessage(one.role, parts, one.finish_reason, one.model, one.usage)


async def fork_of(store: Store, chat: Chat, message_id: int | None, system_prompt: str) -> NewChat:
    """The chat to be made. ``message_id``: the last message that it has; None: all whole turns.

    Raises ``MessageNotFound``, ``NotTurnEnd``, ``ChatFull``, and ``Conflict`` if history is rewritten meanwhile."""
    messages = await read_past(store, chat.id)
    now = await store.get(chat.id)
    if now.reset_version != chat.reset_version:
        raise Conflict("the history of the chat was rewritten meanwhile; look at it, and fork again")
    end = _end_of(messages, message_id, rests=now.status in AT_REST)
    return NewChat(
        id=uuid4(),
        owner_id=chat.owner_id,
        title=chat.title,
        model=chat.model,
        messages=copied(messages[:end]),
        client_tools=chat.client_tools,
        mcp_servers=chat.mcp_servers,
        system_prompt=system_prompt,
        agents=chat.agents,
        at_rest=True,
    )


def _end_of(messages: list[Message], message_id: int | None, *, rests: bool) -> int:
    """How many messages the fork has."""
    ends = [index for index in range(1, len(messages)) if messages[index].role is Role.USER]
    if rests and messages:
        ends.append(len(messages))
    if message_id is None:
        return ends[-1] if ends else 0
    place = next((index for index, one in enumerate(messages, 1) if one.id == message_id), None)
    if place is None:
        raise MessageNotFound("there is no such message in this chat")
    if place not in ends:
        before = max((end for end in ends if end < place), default=None)
        behind = min((end for end in ends if end > place), default=None)
        raise NotTurnEnd(
            "a fork has whole turns: name the last message of one",
            before=None if before is None else messages[before - 1].id,
            after=None if behind is None else messages[behind - 1].id,
        )
    return place
