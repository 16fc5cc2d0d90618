"""The data that travels: parts, messages, frames, positions and cursors, and their codec.

* A **part** is a piece of a message's content; a **message** is a committed row of history.
* A **frame** is one entry of a chat's part stream. Its ``data`` is the JSON that a subscriber gets,
  encoded once by its producer and carried as bytes to the subscriber's socket.
* A **position** ``epoch-seq`` names a frame; it is the frame's ID in the Redis stream as well.
* A **cursor** names a point in a subscription, ``<snapshot_version>.<epoch>-<seq>``: everything up to
  that snapshot version and that position has been seen. In the middle of a replay, where one
  snapshot version covers several messages, ``.<message_id>`` is appended: of the history at that
  version, only the messages up to this ID have been seen.

The kinds of parts are in ``content.py``, and offered here as well. Pure: no I/O, no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from chatcluster.content import (
    CONTENT_VERSION,
    STREAMED_ONLY,
    ImagePart,
    JsonPart,
    NoticePart,
    OpaquePart,
    Part,
    Parts,
    ReasoningPart,
    ResourcePart,
    ResultContent,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
    coalesced,
    content_version_of,
    is_visible,
    joined,
    seen,
    storable,
    strings_of,
    text_of,
)
from chatcluster.errors import InvalidCursor
from chatcluster.usage import Bill, Count, Usage

__all__ = [
    "BEGINNING",
    "CONTENT_VERSION",
    "FRAME_KIND",
    "START",
    "STREAMED_ONLY",
    "UNDECODABLE",
    "AttemptFrame",
    "CloseFrame",
    "CommittedFrame",
    "Count",
    "Cursor",
    "EndedTurn",
    "Entry",
    "Frame",
    "FrameBody",
    "FrameKind",
    "ImagePart",
    "JsonPart",
    "Message",
    "NewMessage",
    "NoticePart",
    "OpaquePart",
    "OpenFrame",
    "Part",
    "PartFrame",
    "Parts",
    "Position",
    "QueuedMessage",
    "ReasoningPart",
    "ResourcePart",
    "ResultContent",
    "Role",
    "TextPart",
    "ToolArgumentsPart",
    "ToolCallPart",
    "ToolProgressPart",
    "ToolResultPart",
    "TurnFrame",
    "Usage",
    "coalesced",
    "content_version_of",
    "decode_frame",
    "decode_parts",
    "encode",
    "ends_group",
    "frame",
    "in_order",
    "is_visible",
    "joined",
    "pack_frame",
    "parse_cursor",
    "shown",
    "storable",
    "strings_of",
    "text_of",
    "understood",
    "unpack_frame",
]


class Role(StrEnum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Position(NamedTuple):
    """The place of a frame: tenures are ordered by epoch, frames of one tenure by seq."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        epoch, _, seq = text.partition("-")
        return cls(int(epoch), int(seq))


START = Position(0, 0)
"""Before every frame: epochs start at 1."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A committed row of history.

    ``finish_reason`` is set on assistant messages: ``stop``, ``length``, ``content_filter``,
    ``tool_calls``, ``other`` or ``interrupted``. ``position`` is the last frame of the attempt that the message
    was streamed in: a feed that shows both has to show the frames up to it first. ``model`` is the one that
    answered, and on a user message the one that is asked, if that is not the chat's.
    """

    id: int
    role: Role
    parts: Parts
    revision: int
    created_at: datetime
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None
    position: str | None = None


class EndedTurn(msgspec.Struct, frozen=True, omit_defaults=True):
    """A turn that ended in the transaction of snapshot version ``revision``.

    ``message_id`` is the user's message that it answered; ``outcome`` is ``finished``, ``interrupted``, or ``error``
    with a ``code``. ``duration_ms`` counts from that message's entry into history. ``usage``: what its attempts cost;
    None where a version wrote it that did not book that.
    """

    message_id: int
    outcome: str
    duration_ms: int
    revision: int
    code: str | None = None
    usage: Bill | None = None


Entry = Message | EndedTurn
"""What is told in the order of revisions."""


class NewMessage(msgspec.Struct, frozen=True):
    """A message before the store has given it an ID; its revision is that of the transaction."""

    role: Role
    parts: Parts
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None
    position: str | None = None


class QueuedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user message that waits while the chat is busy. ``model``: as in ``Message``; ``steered``: as in ``Queued``."""

    id: int
    parts: Parts
    created_at: datetime
    model: str | None = None
    steered: bool = False


class FrameKind(StrEnum):
    OPEN = "open"
    """Seq 0 of every tenure: worker ID and history version."""
    TURN = "turn"
    """The tenure goes on to a queued message."""
    ATTEMPT = "attempt"
    """A new attempt at a model response: the preview starts anew."""
    PART = "part"
    """A delta: text, reasoning, or a tool call's arguments."""
    COMMITTED = "committed"
    """What came before is now history."""
    CLOSE = "close"
    """The tenure is over."""
    UNKNOWN = "unknown"
    """Of a newer version of chatcluster: passed over."""

    @classmethod
    def _missing_(cls, _: object) -> FrameKind:
        return cls.UNKNOWN


class Frame(msgspec.Struct, frozen=True):
    position: Position
    kind: FrameKind
    data: bytes


class OpenFrame(msgspec.Struct, frozen=True, tag="open", omit_defaults=True):
    """``snapshot_version`` is that of the claim: after a failover that lost one the same worker may be given the same
    epoch again, and then it tells the two apart."""

    worker_id: str
    history_version: int
    snapshot_version: int = 0


class TurnFrame(msgspec.Struct, frozen=True, tag="turn"):
    """The stream is trimmed to it, so like ``open`` it names the worker, unless it is of the previous version."""

    message_id: int
    history_version: int
    worker_id: str = ""


class AttemptFrame(msgspec.Struct, frozen=True, tag="attempt"):
    """``snapshot_version`` is that of the transaction that started the attempt: it is shown first, everywhere."""

    attempt: int
    history_version: int
    snapshot_version: int = 0


class PartFrame(msgspec.Struct, frozen=True, tag="part"):
    attempt: int
    part: Part


class CommittedFrame(msgspec.Struct, frozen=True, tag="committed"):
    history_version: int


class CloseFrame(msgspec.Struct, frozen=True, tag="close"):
    outcome: str


FrameBody = OpenFrame | TurnFrame | AttemptFrame | PartFrame | CommittedFrame | CloseFrame

FRAME_KIND: dict[type[msgspec.Struct], FrameKind] = {
    OpenFrame: FrameKind.OPEN,
    TurnFrame: FrameKind.TURN,
    AttemptFrame: FrameKind.ATTEMPT,
    PartFrame: FrameKind.PART,
    CommittedFrame: FrameKind.COMMITTED,
    CloseFrame: FrameKind.CLOSE,
}

_encoder = msgspec.json.Encoder()
_frame_decoder: msgspec.json.Decoder[FrameBody] = msgspec.json.Decoder(FrameBody)
_parts_decoder: msgspec.json.Decoder[Parts] = msgspec.json.Decoder(Parts)


UNDECODABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""What decoding raises for bytes that are none of ours: no JSON of that form, no text, or nested without end."""


def encode(value: Any) -> bytes:
    """Any of the structs here, or plain data, as compact JSON."""
    return _encoder.encode(value)


def frame(position: Position, body: FrameBody) -> Frame:
    return Frame(position, FRAME_KIND[type(body)], _encoder.encode(body))


def decode_frame(data: bytes) -> FrameBody:
    return _frame_decoder.decode(data)


def understood(entry: Frame) -> Frame:
    """The frame, or one of kind ``UNKNOWN`` in its place where its body is not what its kind says.

    The bodies of parts are not looked at: they are carried, not read. But none has more than one line, or it would
    be more than one event to those who get it.
    """
    if entry.kind is FrameKind.PART:
        return entry if b"\n" not in entry.data and b"\r" not in entry.data else _unknown(entry)
    try:
        body = decode_frame(entry.data)
    except UNDECODABLE:
        return _unknown(entry)
    return entry if FRAME_KIND[type(body)] is entry.kind else _unknown(entry)


def _unknown(entry: Frame) -> Frame:
    return Frame(entry.position, FrameKind.UNKNOWN, b"")


def pack_frame(value: Frame) -> bytes:
    """A frame as one live message: ``<position> <kind> <data>``."""
    return b"%d-%d %s %s" % (*value.position, value.kind.value.encode(), value.data)


def unpack_frame(payload: bytes) -> Frame:
    """What ``pack_frame`` made, as far as it is ``understood``. Raises ``ValueError`` for anything else."""
    position, kind, data = payload.split(b" ", 2)
    return understood(Frame(Position.parse(position.decode()), FrameKind(kind.decode()), data))


def decode_parts(data: bytes | str) -> Parts:
    return _parts_decoder.decode(data)


def shown(message: Message) -> Message:
    """The message as its readers get it: without what only the provider understands, or the model is told."""
    parts = seen(message.parts)
    return message if parts is message.parts else msgspec.structs.replace(message, parts=parts)


class Cursor(NamedTuple):
    """A point in a subscription; see the module's docstring."""

    version: int
    position: Position
    message_id: int | None = None

    def __str__(self) -> str:
        suffix = "" if self.message_id is None else f".{self.message_id}"
        return f"{self.version}.{self.position}{suffix}"


BEGINNING = Cursor(0, START)

_CURSOR = re.compile(r"(\d{1,18})\.(\d{1,18})-(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)


def parse_cursor(text: str) -> Cursor:
    """The cursor that ``text`` (a ``Last-Event-ID`` or ``?cursor=``) names.

    Raises ``InvalidCursor`` for anything that ``str(Cursor)`` does not produce.
    """
    match = _CURSOR.fullmatch(text.strip())
    if match is None:
        raise InvalidCursor("not a cursor of this API; leave it away to read from the beginning", cursor=text[:80])
    version, epoch, seq, message_id = match.groups()
    return Cursor(int(version), Position(int(epoch), int(seq)), None if message_id is None else int(message_id))


def in_order(
    messages: Sequence[Message], turns: Iterable[EndedTurn], *, before: int | None = None, floor: int = 0
) -> list[Entry]:
    """Messages, and the turns that ended ``before`` this revision: each after the messages of its transaction.

    What is older than ``floor`` is told as if it were of that version.
    """
    entries: list[Entry] = [*messages, *(turn for turn in turns if before is None or turn.revision < before)]
    if len(entries) > len(messages):
        entries.sort(key=lambda entry: (max(floor, entry.revision), isinstance(entry, EndedTurn)))
    return entries


def ends_group(entries: Sequence[Entry], index: int, next_revision: int | None, *, floor: int = 0) -> bool:
    """Whether ``entries[index]`` is the last of what its transaction brought. After all of them comes a message
    of ``next_revision``, if any."""
    following = entries[index + 1].revision if index + 1 < len(entries) else next_revision
    return following is None or max(floor, following) != max(floor, entries[index].revision)
