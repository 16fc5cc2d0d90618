"""The data that travels: parts, messages, frames, positions and cursors, and their codec.

* A **part** is a piece of a message's content; a **message** is a committed row of history.
* A **frame** is one entry of a chat's part stream, named by its **position** ``epoch-seq``: see ``frames.py``.
* A **cursor** names a point in a subscription, ``<snapshot_version>.<epoch>-<seq>``: everything up to
  that snapshot version and that position has been seen. In the middle of a replay, where one
  snapshot version covers several messages, ``.<message_id>`` is appended: of the history at that
  version, only the messages up to this ID have been seen.

The kinds of parts are in ``content.py``, frames in ``frames.py``: all of them are offered here as well. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from chatcluster.content import (
    CONTENT_VERSION,
    QUESTIONS_VERSION,
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
    SourcePart,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolOutputPart,
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
from chatcluster.frames import (
    FRAME_KIND,
    START,
    UNDECODABLE,
    AttemptFrame,
    CloseFrame,
    CommittedFrame,
    Frame,
    FrameBody,
    FrameKind,
    OpenFrame,
    PartFrame,
    Position,
    ResumedFrame,
    TurnFrame,
    decode_frame,
    encode,
    frame,
    pack_frame,
    resumes_behind,
    understood,
    unpack_frame,
)
from chatcluster.usage import Bill, Count, Usage, grown

__all__ = [
    "BEGINNING",
    "CONTENT_VERSION",
    "CUT_SHORT",
    "FRAME_KIND",
    "PAUSED",
    "QUESTIONS_VERSION",
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
    "ResumedFrame",
    "Role",
    "SourcePart",
    "TextPart",
    "ToolArgumentsPart",
    "ToolCallPart",
    "ToolOutputPart",
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
    "grown",
    "in_order",
    "is_visible",
    "joined",
    "pack_frame",
    "parse_cursor",
    "resumes_behind",
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


CUT_SHORT = ("length", "content_filter")
"""The ``finish_reason`` of an answer that ended before its model was done: its last call may lack arguments."""
PAUSED = "pause"
"""The ``finish_reason`` of an answer that its provider wants to go on with: it is asked again, that answer last."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """A committed row of history.

    ``finish_reason`` is set on assistant messages: ``stop``, ``length``, ``content_filter``, ``tool_calls``,
    ``other``, ``pause`` or ``interrupted``. ``position`` is the last frame of the attempt that the message
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


_parts_decoder: msgspec.json.Decoder[Parts] = msgspec.json.Decoder(Parts)


def decode_parts(data: bytes | bytearray | str) -> Parts:
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

    What is older than ``floor`` is told as if it were of that version: ``before`` as well as the turns.
    """
    told = (turn for turn in turns if before is None or max(floor, turn.revision) < before)
    entries: list[Entry] = [*messages, *told]
    if len(entries) > len(messages):
        entries.sort(key=lambda entry: (max(floor, entry.revision), isinstance(entry, EndedTurn)))
    return entries


def ends_group(entries: Sequence[Entry], index: int, next_revision: int | None, *, floor: int = 0) -> bool:
    """Whether ``entries[index]`` is the last of what its transaction brought. After all of them comes a message
    of ``next_revision``, if any."""
    following = entries[index + 1].revision if index + 1 < len(entries) else next_revision
    return following is None or max(floor, following) != max(floor, entries[index].revision)
