"""Values from rows, and the JSON that goes into them.

Messages, queues and open calls leave the database as JSON that has the form of their structs, so that a whole
page is decoded in one go. Pure: no I/O.

**What cannot be read** is of a newer version, of another program, or damaged. It must not end what serves other chats:

* parts of an unknown kind are left out, and so are ``usage`` and ``position`` of an unknown form;
* a retry or an error of an unknown form is one that says so;
* a message that cannot be read even so is shown as one that says so, but no model is asked about a history with such
  a hole: ``message_of`` raises ``Unreadable``; one of an unknown role is shown as a system's;
* client tools of an unknown form are none; actions of an unknown kind are not told;
* a chat of a status that does not exist here is shown as one in an error that says so, and no transition is made of
  it: ``chat_of`` raises ``Unreadable``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.chat import ChatState, ClientTool, ErrorInfo, OpenCall, Queued, Retry, Status, state_with
from chatcluster.errors import ChatNotFound, Unreadable
from chatcluster.parts import (
    UNDECODABLE,
    EndedTurn,
    Message,
    Part,
    Parts,
    Position,
    QueuedMessage,
    TextPart,
    Usage,
    decode_parts,
)
from chatcluster.ports import Action, Chat
from chatcluster.postgres.connecting import Row

T = TypeVar("T")
Json = str | bytes | bytearray

HISTORY_CHARS_MAX = 64 << 10
VERSION_END = 9_000_000_000_000_000_000
"""As in ``timeline.sql``: there is no next one that can be written."""
UNREADABLE_TEXT = "(this message cannot be read by this version of chatcluster)"
UNREADABLE: Parts = (TextPart(UNREADABLE_TEXT),)


_HALF = re.compile(r"\\u[dD][89abAB]\w\w(?!\\u[dD][c-fC-F]\w\w)|(?<!\\u[dD][89abAB]\w\w)\\u[dD][c-fC-F]\w\w")
"""Half of a surrogate pair, as JSON has it."""


class _Head(msgspec.Struct):
    """A queued message without its content."""

    id: int
    created_at: datetime
    model: str | None
    steered: bool


_DECODED_FIELDS = ("status", "retry", "last_error", "summaries", "client_tools", "mcp_servers")
_PLAIN_FIELDS = tuple(name for name in Chat.__struct_fields__ if name not in _DECODED_FIELDS)
_plain_values: Callable[[Row], tuple[Any, ...]] = itemgetter(*_PLAIN_FIELDS)
"""The columns that are what they are on the row."""

_encoder = msgspec.json.Encoder()
_messages: msgspec.json.Decoder[tuple[Message, ...]] = msgspec.json.Decoder(tuple[Message, ...])
_message: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_turn: msgspec.json.Decoder[EndedTurn] = msgspec.json.Decoder(EndedTurn)
_turns: msgspec.json.Decoder[tuple[EndedTurn, ...]] = msgspec.json.Decoder(tuple[EndedTurn, ...])
_part: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Part)
_object: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_head: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)
_open_calls: msgspec.json.Decoder[tuple[OpenCall, ...]] = msgspec.json.Decoder(tuple[OpenCall, ...])
_actions: msgspec.json.Decoder[tuple[Action, ...]] = msgspec.json.Decoder(tuple[Action, ...])
_client_tools: msgspec.json.Decoder[tuple[ClientTool, ...]] = msgspec.json.Decoder(tuple[ClientTool, ...])
_retry: msgspec.json.Decoder[Retry] = msgspec.json.Decoder(Retry)
_summaries: msgspec.json.Decoder[tuple[int, ...]] = msgspec.json.Decoder(tuple[int, ...])
_error: msgspec.json.Decoder[ErrorInfo] = msgspec.json.Decoder(ErrorInfo)


def json_of(value: Any) -> str | None:
    """The text for a json column; None stays None."""
    return None if value is None else _encoder.encode(value).decode()


def chat_of(row: Row) -> Chat:
    """The chat of a row that has the columns of the fragment ``chat``. Raises ``Unreadable``."""
    if row["snapshot_version"] >= VERSION_END:
        raise Unreadable("this chat has a version that no chat can have")
    return _chat(row, _status_of(row), _error_of(row))


def existing(row: Row | None, chat_id: UUID) -> Row:
    """Raises ``ChatNotFound`` where there is no row."""
    if row is None:
        raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
    return row


def shown_chat_of(row: Row) -> Chat:
    """The chat for those who look at it."""
    try:
        return chat_of(row)
    except Unreadable as error:
        telemetry.event("chat.unreadable", chat_id=str(row["id"]), error=str(error))
        return _chat(row, Status.ERROR, ErrorInfo("unreadable", str(error)))


def _chat(row: Row, status: Status, last_error: ErrorInfo | None) -> Chat:
    plain = zip(_PLAIN_FIELDS, _plain_values(row), strict=True)
    return Chat(
        status=status,
        retry=_retry_of(row),
        last_error=last_error,
        summaries=_summaries_of(row),
        client_tools=_client_tools_of(row),
        mcp_servers=tuple(slug for slug in row["mcp_servers"] or () if isinstance(slug, str)),
        **dict(plain),
    )


def _status_of(row: Row) -> Status:
    try:
        return Status(row["status"])
    except ValueError:
        raise Unreadable("this chat is in a state that this version of chatcluster does not know") from None


def _retry_of(row: Row) -> Retry | None:
    try:
        retry = _decoded(_retry, row["retry"])
    except UNDECODABLE:
        telemetry.event("chat.retry_unreadable", chat_id=str(row["id"]))
        return Retry(row["attempt"], 0, "why the attempt before failed cannot be read by this version", "unreadable")
    if retry is None or is_position(retry.position):
        return retry
    return msgspec.structs.replace(retry, position=None)


def _summaries_of(row: Row) -> tuple[int, ...]:
    """None where they cannot be read: then the whole history is, which has them as well."""
    try:
        return _decoded(_summaries, row["summaries"]) or ()
    except UNDECODABLE:
        telemetry.event("chat.summaries_unreadable", chat_id=str(row["id"]))
        return ()


def _client_tools_of(row: Row) -> tuple[ClientTool, ...]:
    try:
        return _decoded(_client_tools, row["client_tools"]) or ()
    except UNDECODABLE:
        telemetry.event("chat.tools_unreadable", chat_id=str(row["id"]))
        return ()


def _error_of(row: Row) -> ErrorInfo | None:
    try:
        error = _decoded(_error, row["last_error"])
    except UNDECODABLE:
        error = None
    if error is not None or row["status"] != Status.ERROR:
        return error
    telemetry.event("chat.error_unreadable", chat_id=str(row["id"]))
    return ErrorInfo("unreadable", "what ended the turn cannot be read by this version of chatcluster")


def state_of(chat: Chat, queue: Iterable[QueuedMessage], open_calls: tuple[OpenCall, ...]) -> ChatState:
    """What a decision on ``chat`` depends on."""
    queued = tuple(Queued(item.id, item.parts, item.model, item.steered) for item in queue)
    return state_with(chat, queued, open_calls)


def messages_of(text: str | None) -> tuple[Message, ...]:
    """Messages in order, to be shown: each as far as it can be read."""
    try:
        return _decoded(_messages, text) or ()
    except UNDECODABLE:
        return tuple(_shown(raw) for raw in _split(text or "[]"))


def _split(text: str) -> list[msgspec.Raw]:
    """Each message of the text. One that has half of a pair of characters would keep all of them from being read."""
    try:
        return _raws.decode(_HALF.sub(r"\\ufffd", text))
    except UNDECODABLE as error:
        raise Unreadable(f"messages that this version cannot read: {error}") from None


def _shown(raw: msgspec.Raw) -> Message:
    try:
        return message_of(bytes(raw))
    except Unreadable as error:
        telemetry.event("message.unreadable", error=str(error))
        return _stand_in(_object.decode(raw))


def _stand_in(fields: dict[str, msgspec.Raw]) -> Message:
    """A message that has the place of one that cannot be read, and the role of a system's where its own is unknown."""
    try:
        return _converted({name: fields[name] for name in ("id", "role", "revision", "created_at")}, UNREADABLE)
    except UNDECODABLE:
        place = {name: fields[name] for name in ("id", "revision", "created_at")}
        return _converted(place | {"role": msgspec.Raw(b'"system"')}, UNREADABLE)


def message_of(text: str | bytes) -> Message:
    """One message of a history that a model is to answer. Raises ``Unreadable``."""
    try:
        message = _message.decode(text)
    except UNDECODABLE:
        message = _readable(text)
    return message if is_position(message.position) else msgspec.structs.replace(message, position=None)


def _readable(text: str | bytes) -> Message:
    """The message without what this version does not know."""
    try:
        fields = _object.decode(text)
        parts = _known_parts(fields.pop("parts"))
        usage = _usage_of(fields.pop("usage", msgspec.Raw(b"null")))
        message = _converted(fields, parts, usage)
    except UNDECODABLE as error:
        raise Unreadable(f"a message that this version cannot read: {error}") from None
    telemetry.event("message.part_unknown", message_id=message.id)
    return message


def _converted(fields: dict[str, msgspec.Raw], parts: Parts, usage: Usage | None = None) -> Message:
    plain = {name: msgspec.json.decode(value) for name, value in fields.items()}
    return msgspec.convert(plain | {"parts": parts, "usage": usage}, Message)


def _part_of(raw: msgspec.Raw) -> Part | None:
    """None for a part of an unknown kind."""
    try:
        part: Part = _part.decode(raw)
        return part
    except msgspec.ValidationError:
        return None


def _usage_of(raw: msgspec.Raw) -> Usage | None:
    try:
        return msgspec.json.decode(raw, type=Usage | None)
    except UNDECODABLE:
        return None


def history_of(text: str | None) -> tuple[Message, ...] | None:
    """A history that a model is to answer, if it was read; None also where any of it takes a closer look, or longer."""
    if text is not None and len(text) > HISTORY_CHARS_MAX:
        return None
    try:
        messages = _decoded(_messages, text)
    except UNDECODABLE:
        return None
    return messages if messages is None or all(is_position(message.position) for message in messages) else None


def is_position(text: str | None) -> bool:
    """Whether the position of a message, or of a retry, is one, or there is none."""
    if text is None:
        return True
    try:
        return str(Position.parse(text)) == text
    except ValueError:
        return False


def queue_of(items: Sequence[Sequence[str]]) -> tuple[QueuedMessage, ...]:
    """The queue in order. Each message has its place in it, whether or not it can be read."""
    return tuple(_queued_of(head, content) for head, content in items)


def _queued_of(head: str, content: str) -> QueuedMessage:
    known = _head.decode(head)
    return QueuedMessage(known.id, parts_of(content), known.created_at, known.model, known.steered)


def readable_parts_of(text: Json) -> Parts:
    """The content of a message that a model is to answer. Raises ``Unreadable``."""
    try:
        return decode_parts(text)
    except UNDECODABLE:
        pass
    try:
        parts = _known_parts(text)
    except UNDECODABLE as error:
        raise Unreadable(f"a message that this version cannot read: {error}") from None
    telemetry.event("message.part_unknown", parts=len(parts))
    return parts


def _known_parts(text: Json) -> Parts:
    """Raises ``UNDECODABLE`` for what is not JSON of any version's parts."""
    return tuple(part for part in map(_part_of, _raws.decode(text)) if part is not None)


def parts_of(text: Json) -> Parts:
    """The content of a message, as far as it can be read."""
    try:
        return readable_parts_of(text) or UNREADABLE
    except Unreadable as error:
        telemetry.event("message.unreadable", error=str(error))
        return UNREADABLE


def open_calls_of(text: str | None) -> tuple[OpenCall, ...]:
    """Raises ``Unreadable``: of a call in a state that does not exist here nobody may decide."""
    try:
        return _decoded(_open_calls, text) or ()
    except UNDECODABLE as error:
        raise Unreadable(f"a tool call that this version cannot read: {error}") from None


def actions_of(text: str | None) -> tuple[Action, ...]:
    """The actions that can be read: a client that knows a newer kind of wait is told of it by a newer version."""
    try:
        return _decoded(_actions, text) or ()
    except UNDECODABLE:
        telemetry.event("chat.actions_unreadable")
        return ()


def turn_of(text: str | None) -> EndedTurn | None:
    return _decoded(_turn, text)


def turns_of(text: str | None) -> tuple[EndedTurn, ...]:
    """Turns in order. Their columns are plain, but for what they cost: of an unknown form it is left out."""
    try:
        return _decoded(_turns, text) or ()
    except UNDECODABLE:
        return tuple(_turn_without_usage(raw) for raw in _split(text or "[]"))


def _turn_without_usage(raw: msgspec.Raw) -> EndedTurn:
    fields = _object.decode(raw)
    fields.pop("usage", None)
    return _turn.decode(_encoder.encode(fields))


def _decoded(decoder: msgspec.json.Decoder[T], text: str | None) -> T | None:
    return None if text is None else decoder.decode(text)
