"""Values from rows, and the JSON that goes into them.

Messages, queues and open calls leave the database as JSON that has the form of their structs, so that a whole
history is decoded in one go. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from chatcluster import telemetry
from chatcluster.chat import ChatState, ErrorInfo, OpenCall, Queued, Retry, Status
from chatcluster.parts import Message, Part, QueuedMessage
from chatcluster.ports import Chat
from chatcluster.postgres import Row

T = TypeVar("T")

_encoder = msgspec.json.Encoder()
_messages: msgspec.json.Decoder[tuple[Message, ...]] = msgspec.json.Decoder(tuple[Message, ...])
_anything: msgspec.json.Decoder[list[dict[str, Any]]] = msgspec.json.Decoder(list[dict[str, Any]])
_queue: msgspec.json.Decoder[tuple[QueuedMessage, ...]] = msgspec.json.Decoder(tuple[QueuedMessage, ...])
_open_calls: msgspec.json.Decoder[tuple[OpenCall, ...]] = msgspec.json.Decoder(tuple[OpenCall, ...])
_retry: msgspec.json.Decoder[Retry] = msgspec.json.Decoder(Retry)
_error: msgspec.json.Decoder[ErrorInfo] = msgspec.json.Decoder(ErrorInfo)


def json_of(value: Any) -> str | None:
    """The text for a json column; None stays None."""
    return None if value is None else _encoder.encode(value).decode()


def chat_of(row: Row) -> Chat:
    """The chat of a row that has the columns of the fragment ``chat``."""
    return Chat(
        id=row["id"],
        owner_id=row["owner_id"],
        title=row["title"],
        model=row["model"],
        status=Status(row["status"]),
        archived=row["archived"],
        archiving=row["archiving"],
        compacting=row["compacting"],
        worker_id=row["worker_id"],
        epoch=row["epoch"],
        snapshot_version=row["snapshot_version"],
        history_version=row["history_version"],
        queue_version=row["queue_version"],
        reset_version=row["reset_version"],
        attempt=row["attempt"],
        retry=_decoded(_retry, row["retry"]),
        retry_at=row["retry_at"],
        last_error=_decoded(_error, row["last_error"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def chats_of(rows: Iterable[Row]) -> tuple[Chat, ...]:
    return tuple(chat_of(row) for row in rows)


def state_of(chat: Chat, queue: Iterable[QueuedMessage], open_calls: tuple[OpenCall, ...]) -> ChatState:
    """What a decision on ``chat`` depends on."""
    return ChatState(
        status=chat.status,
        archived=chat.archived,
        archiving=chat.archiving,
        compacting=chat.compacting,
        worker_id=chat.worker_id,
        epoch=chat.epoch,
        snapshot_version=chat.snapshot_version,
        history_version=chat.history_version,
        queue_version=chat.queue_version,
        reset_version=chat.reset_version,
        attempt=chat.attempt,
        retry=chat.retry,
        last_error=chat.last_error,
        queue=tuple(Queued(queued.id, queued.parts, queued.model) for queued in queue),
        open_calls=open_calls,
    )


def messages_of(text: str | None) -> tuple[Message, ...]:
    """Messages in order. Parts of a kind that only a newer version knows are left out: a chat that one replica cannot
    read whole must not keep it, and then each of the others, from all the chats it claims together with it."""
    try:
        return _decoded(_messages, text) or ()
    except msgspec.ValidationError:
        return tuple(map(_readable, _anything.decode(text or "[]")))


def _readable(message: dict[str, Any]) -> Message:
    parts = [part for part in message["parts"] if _is_known(part)]
    telemetry.event("message.part_unknown", message_id=message["id"], parts=len(message["parts"]) - len(parts))
    return msgspec.convert(message | {"parts": parts}, Message)


def _is_known(part: Any) -> bool:
    try:
        msgspec.convert(part, Part)
    except msgspec.ValidationError:
        return False
    return True


def queue_of(text: str) -> tuple[QueuedMessage, ...]:
    return _queue.decode(text)


def open_calls_of(text: str | None) -> tuple[OpenCall, ...]:
    return _decoded(_open_calls, text) or ()


def _decoded(decoder: msgspec.json.Decoder[T], text: str | None) -> T | None:
    return None if text is None else decoder.decode(text)
