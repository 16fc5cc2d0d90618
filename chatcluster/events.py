"""The events of a subscription, and their form on the wire (server-sent events).

``id`` is the cursor after the event; ``event`` its type; ``data`` a JSON object with ``type`` and payload.
An event's data is encoded once per change, whatever the number of subscribers. Pure.

===================  ====================================================================="""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.chat import ErrorInfo
from chatcluster.parts import START, Cursor, EndedTurn, Frame, Message, Position, QueuedMessage, encode
from chatcluster.ports import Action, Chat
from chatcluster.ports.workspace_diffs import DiffStatus
from chatcluster.usage import Bill
from chatcluster.views import ChatAnswer, ShownStatus


class StatusEvent(ShownStatus, frozen=True, tag="status"):
    cause: str = ""


class MessageEvent(msgspec.Struct, frozen=True, tag="message"):
    message: Message


class HistoryResetEvent(msgspec.Struct, frozen=True, tag="history_reset"):
    pass


class QueueEvent(msgspec.Struct, frozen=True, tag="queue"):
    queue: Sequence[QueuedMessage]


class ActionRequiredEvent(msgspec.Struct, frozen=True, tag="action_required"):
    calls: Sequence[Action]


class RetryEvent(msgspec.Struct, frozen=True, tag="retry", omit_defaults=True):
    attempt: int
    delay_ms: int
    error: str
    kind: str
    retrying_at: datetime | None
    provider: str | None = None
    status_code: int | None = None
    model: str | None = None


class ErrorEvent(msgspec.Struct, frozen=True, tag="error"):
    error: ErrorInfo


class TitleEvent(msgspec.Struct, frozen=True, tag="title"):
    title: str


class TurnEvent(msgspec.Struct, frozen=True, tag="turn", omit_defaults=True):
    message_id: int
    outcome: str
    duration_ms: int
    code: str | None = None
    usage: Bill | None = None


class ReadyEvent(msgspec.Struct, frozen=True, tag="ready"):
    pass


class AcceptedEvent(msgspec.Struct, frozen=True, tag="accepted", omit_defaults=True):
    chat: ChatAnswer
    message: Message | None = None
    queued: QueuedMessage | None = None


class ChatChangeEvent(msgspec.Struct, frozen=True, tag="chat", omit_defaults=True):
    change: str
    chat_id: UUID
    chat: ChatAnswer | None = None
    diff_status: DiffStatus | None = None


class ListResetEvent(msgspec.Struct, frozen=True, tag="list_reset"):
    pass


Event = (
    StatusEvent
    | MessageEvent
    | HistoryResetEvent
    | QueueEvent
    | ActionRequiredEvent
    | RetryEvent
    | ErrorEvent
    | TitleEvent
    | TurnEvent
    | ReadyEvent
    | AcceptedEvent
    | ChatChangeEvent
    | ListResetEvent
)


def kind_of(event: Event) -> str:
    """Its name on the wire."""
    kind: Any = type(event).__struct_config__.tag
    return str(kind)


def body(event: Event) -> bytes:
    """The event without its id, ready to be sent under any."""
    return named(kind_of(event), encode(event))


def named(kind: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


ID = b"id: "
"""How each event of a chat begins."""


def with_id(cursor: Cursor, event_body: bytes) -> bytes:
    return b"id: %s\n%s" % (str(cursor).encode(), event_body)


def under(cursor: Cursor, kind: str, data: bytes) -> bytes:
    """An event of this kind, which says this, under its cursor. In one copy: some are large."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(cursor).encode(), kind.encode(), data)


def at(cursor: Cursor, event: Event) -> bytes:
    """The event under its cursor, as it is sent."""
    return under(cursor, kind_of(event), encode(event))


def of_frame(cursor: Cursor, frame: Frame) -> bytes:
    """A frame as an event under its cursor: nearly all events are such."""
    return under(cursor, frame.kind, frame.data)


def ready(cursor: Cursor) -> bytes:
    return with_id(cursor, READY)


def marked(mark: bytes, event: bytes) -> bytes:
    """An event that has an id, with a mark in place of how that begins. In one copy."""
    return b"".join((mark, memoryview(event)[len(ID) :]))


def moved(cursor: Cursor, event: bytes) -> bytes:
    """An event that has an id, under another one. In one copy."""
    return b"".join((ID, str(cursor).encode(), memoryview(event)[event.index(b"\n") :]))


READY = body(ReadyEvent())


def turn_event(turn: EndedTurn) -> TurnEvent:
    return TurnEvent(turn.message_id, turn.outcome, turn.duration_ms, turn.code, turn.usage)


def status_event(chat: Chat) -> StatusEvent:
    return StatusEvent(chat.shown_status, chat.archived, chat.epoch, chat.worker_id, chat.cause)


def retry_event(chat: Chat, shown: Position = START) -> RetryEvent | None:
    """The retry that the chat waits for, if it does, for a reader that was shown frames up to ``shown``.

    None as well if those are of the attempt that it was to wait for: its owner has begun it, and a failover has lost
    that. What was shown of it goes on.
    """
    retry = chat.retry
    if retry is None or (retry.position is not None and Position.parse(retry.position) < shown):
        return None
    return RetryEvent(
        retry.attempt,
        retry.delay_ms,
        retry.error,
        retry.kind,
        chat.retry_at,
        retry.provider,
        retry.status_code,
        retry.model,
    )


def error_event(chat: Chat) -> ErrorEvent | None:
    return None if chat.last_error is None else ErrorEvent(chat.last_error)
