"""What a dead tenure had said: the words of its last attempt, read from the part stream.

Used when a chat whose interruption was under way is taken over, and where the next owner can go on with an answer that
was begun (``resumption.py``). The caller has opened its own tenure on the stream before, so nothing can be added to the
older ones any more: what is read here is all that there will ever be, and all that any reader may have seen.

An attempt may have gone on through several tenures: each says so in a ``resumed`` frame, which names the frame that it
goes on behind. One that names another than what is there goes on with what no reader has, and is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import trio

from chatcluster import telemetry
from chatcluster.attempt import Said
from chatcluster.errors import StreamsUnavailable
from chatcluster.parts import (
    START,
    UNDECODABLE,
    AttemptFrame,
    Frame,
    FrameKind,
    NoticePart,
    Part,
    PartFrame,
    Position,
    ResumedFrame,
    decode_frame,
)
from chatcluster.ports import Chat, PartStreams

READ_FRAMES = 500
SALVAGE_SECONDS_MAX = 2.0


class Half(NamedTuple):
    """An attempt that has no owner any more."""

    said: Said = Said()
    attempts: frozenset[int] = frozenset()
    """The number of the attempt, and those under which it went on."""
    last: Position | None = None
    """The attempt's last frame; None if there is nothing of it."""
    sequence: int | None = None
    """The place behind what was said, if it was told (``ports.Delta``)."""
    is_readable: bool = True
    """False: it has parts of a kind that this version does not know."""


async def salvage(streams: PartStreams, chat: Callable[[], Chat], opened: trio.Event) -> Half:
    """What the tenures before that of ``chat`` had said, once it is ``opened``; without Redis nothing, and soon.

    The chat is asked for then, because to open its tenure may have taken a higher epoch.
    """
    with trio.move_on_after(SALVAGE_SECONDS_MAX):
        await opened.wait()
        try:
            return await last_attempt(streams, chat())
        except StreamsUnavailable as error:
            telemetry.event("runner.partial_unreadable", chat_id=str(chat().id), error=str(error))
    return Half()


async def last_attempt(streams: PartStreams, chat: Chat) -> Half:
    """The last attempt of the tenures before ``chat.epoch``, if it builds on the history of ``chat``.

    An attempt that failed or that was committed is not it. Of one with a hole, which Redis has lost, only what comes
    before the hole is kept. Raises ``StreamsUnavailable``.
    """
    reading = _Reading(chat)
    after = START
    while True:
        frames = await streams.read(chat.id, after=after, limit=READ_FRAMES)
        for entry in frames:
            if entry.position.epoch >= chat.epoch:
                return reading.half
            reading.take(entry)
            after = entry.position
        if len(frames) < READ_FRAMES:
            return reading.half


class _Reading:
    """The newest attempt among frames, which are taken in order."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._at = START
        self._is_within = False
        """What comes belongs to the attempt."""
        self._begin()

    def _begin(self) -> None:
        self._said: list[Part] = []
        self._attempts: set[int] = set()
        self._said_until: Position | None = None
        self._last: Position | None = None
        self._sequence: int | None = None
        self._is_readable = True

    @property
    def half(self) -> Half:
        said = Said(tuple(self._said), self._said_until)
        return Half(said, frozenset(self._attempts), self._last, self._sequence, self._is_readable)

    def take(self, entry: Frame) -> None:
        before, self._at = self._at, entry.position
        if entry.position != (before.epoch, before.seq + 1):
            self._is_within = False
        if entry.kind not in (FrameKind.ATTEMPT, FrameKind.RESUMED, FrameKind.PART):
            return
        try:
            body = decode_frame(entry.data)
        except UNDECODABLE:
            self._is_readable = not self._is_within  # what this version does not know cannot be kept by it
            return
        match body:
            case AttemptFrame():
                self._begin()
                self._is_within = self._is_current(body)
            case ResumedFrame():
                self._is_within = body.after == str(self._last) and self._is_current(body)
            case PartFrame() if self._is_within:
                self._take_part(body)
        if self._is_within:
            self._last = entry.position
        if isinstance(body, AttemptFrame | ResumedFrame) and self._is_within:
            self._attempts.add(body.attempt)

    def _take_part(self, body: PartFrame) -> None:
        self._said.append(body.part)
        self._said_until = self._at
        if not isinstance(body.part, NoticePart):
            self._sequence = body.sequence

    def _is_current(self, body: AttemptFrame | ResumedFrame) -> bool:
        chat = self._chat
        return body.history_version == chat.history_version and body.attempt > chat.failed_attempt
