"""The frames of a part stream, and their codec. Pure: no I/O, no clock.

A **frame** is one entry of a chat's part stream. Its ``data`` is the JSON that a subscriber gets, encoded once by its
producer and carried as bytes to the subscriber's socket. A **position** ``epoch-seq`` names a frame; it is the frame's
ID in the Redis stream as well. What else travels is in ``parts.py``, where all of this is offered as well.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from chatcluster.content import Part


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


class FrameKind(StrEnum):
    OPEN = "open"
    """Seq 0 of every tenure: worker ID and history version."""
    TURN = "turn"
    """The tenure goes on to a queued message."""
    ATTEMPT = "attempt"
    """A new attempt at a model response: the preview starts anew."""
    RESUMED = "resumed"
    """The attempt of a tenure that is over goes on in this one: what was streamed of it stands, and more follows."""
    PART = "part"
    """A delta: text, reasoning, or a tool call's arguments."""
    COMMITTED = "committed"
    """What came before is now history."""
    CLOSE = "close"
    """The tenure is over."""
    UNKNOWN = "unknown"
    """A kind of a newer version of chatcluster: passed over."""

    @classmethod
    def _missing_(cls, _: object) -> FrameKind:
        return cls.UNKNOWN


class Frame(msgspec.Struct, frozen=True):
    position: Position
    kind: FrameKind
    data: bytes


class OpenFrame(msgspec.Struct, frozen=True, tag="open", omit_defaults=True):
    """``snapshot_version`` is that of the claim: after a failover that lost one, to a server that does not tell its
    timeline, the same worker may be given the same epoch again, and then it tells the two apart."""

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


class ResumedFrame(msgspec.Struct, frozen=True, tag="resumed"):
    """``attempt`` goes on behind the frame at ``after``, an older tenure's last one. ``how``: ``attached`` to an answer
    that its provider went on with, or ``continued`` by the model from the words that there were. ``snapshot_version``
    as in ``AttemptFrame``."""

    attempt: int
    history_version: int
    snapshot_version: int
    how: str
    after: str


class PartFrame(msgspec.Struct, frozen=True, tag="part", omit_defaults=True):
    """``sequence``: of an answer that another owner can go on with, the place behind this delta (``ports.Delta``)."""

    attempt: int
    part: Part
    sequence: int | None = None


class CommittedFrame(msgspec.Struct, frozen=True, tag="committed"):
    history_version: int


class CloseFrame(msgspec.Struct, frozen=True, tag="close"):
    outcome: str


FrameBody = OpenFrame | TurnFrame | AttemptFrame | ResumedFrame | PartFrame | CommittedFrame | CloseFrame

FRAME_KIND: dict[type[msgspec.Struct], FrameKind] = {
    OpenFrame: FrameKind.OPEN,
    TurnFrame: FrameKind.TURN,
    AttemptFrame: FrameKind.ATTEMPT,
    ResumedFrame: FrameKind.RESUMED,
    PartFrame: FrameKind.PART,
    CommittedFrame: FrameKind.COMMITTED,
    CloseFrame: FrameKind.CLOSE,
}

_encoder = msgspec.json.Encoder()
_frame_decoder: msgspec.json.Decoder[FrameBody] = msgspec.json.Decoder(FrameBody)


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


def resumes_behind(entry: Frame, position: Position) -> bool:
    """Whether a ``resumed`` frame goes on behind the one at ``position``."""
    body = decode_frame(entry.data)
    return isinstance(body, ResumedFrame) and body.after == str(position)
