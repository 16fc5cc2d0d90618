"""How much a chat may hold: the bytes of its history and its queue, counted on its row.

A message is refused when there is no room for it, and nothing else ever is: what an owner commits is taken whatever its
size, and an earlier message can be edited in a chat that is full, which deletes all that follows.

The count is a help and not the truth (rows may have been added by others), so nobody is refused by it alone: a store
counts again before it says that a chat is full. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatcluster.chat import ChatState, Decision, Edit, EditQueued, Insert, Queued, Send, SubmitToolResults, UserCommand
from chatcluster.content import SummaryPart
from chatcluster.errors import ChatFull
from chatcluster.parts import Message, NewMessage, Parts, QueuedMessage, encode
from chatcluster.ports import MESSAGE_BYTES


def bytes_of(messages: Iterable[Message | NewMessage | Queued | QueuedMessage]) -> int:
    return sum(MESSAGE_BYTES + len(encode(message.parts)) for message in messages)


def new_parts(command: UserCommand) -> Parts | None:
    """What the command adds to the chat, None if that is nothing."""
    match command:
        case Send():
            return command.message.parts
        case Edit() | EditQueued():
            return command.parts
        case SubmitToolResults() | Insert():
            return command.parts
    return None


def has_room(held_bytes: int, parts: Parts, *, bytes_max: int) -> bool:
    return held_bytes + MESSAGE_BYTES + len(encode(parts)) <= bytes_max


def require_room(held_bytes: int, parts: Parts, *, bytes_max: int) -> None:
    if not has_room(held_bytes, parts, bytes_max=bytes_max):
        raise ChatFull(
            f"the chat is full: its history and queue may have {bytes_max} bytes; edit an earlier message, "
            "which deletes what follows it, delete queued messages, or start a new chat",
            bytes_max=bytes_max,
        )


def require_room_of_copy(size_bytes: int, *, bytes_max: int) -> None:
    """Raises ``ChatFull`` where a chat would begin with more than it may hold."""
    if size_bytes > bytes_max:
        raise ChatFull(
            f"the history up to there has more than {bytes_max} bytes, which is all that a chat may have; "
            "fork at an earlier message",
            bytes_max=bytes_max,
        )


def kept_bytes(before: ChatState, decision: Decision) -> int | None:
    """What the chat holds without the change, where a summary says what counts of its history from now on."""
    for message in decision.messages:
        for part in message.parts:
            if isinstance(part, SummaryPart):
                return part.kept_bytes + bytes_of(before.queue)
    return None


def change_bytes(before: ChatState, decision: Decision) -> int:
    """By how much the decision changes what the chat holds, apart from the messages of its history that it deletes."""
    added = bytes_of(decision.messages) + bytes_of(filter(None, (decision.enqueue,)))
    if decision.delete is not None:
        return added  # an edit empties the queue as well; what it keeps was counted
    gone = set(decision.dequeue)
    if decision.requeue is not None:
        added += bytes_of([decision.requeue.message])
        gone.add(decision.requeue.id)
    return added - bytes_of(queued for queued in before.queue if queued.id in gone)
