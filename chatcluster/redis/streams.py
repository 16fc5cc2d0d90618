"""``PartStreams`` on Redis streams.

One stream per chat, ``chatcluster:<cluster>:{<chat_id>}:parts``. A frame's position is its entry's ID,
``<epoch>-<seq>``, given explicitly, and Redis refuses an ID that is not above the last one. That is the fence: once a
tenure's first entry ``<epoch>-0`` is in, nothing of an older tenure can be added, by any process and however late.
Neither a script nor a lock is needed, and every frame can be sent twice without harm.

Who is authoritative: Postgres, always. A stream may vanish at any moment (Redis restarted empty,
expiry); then ``append`` says ``MISSING`` rather than create a stream that lacks its beginning (``NOMKSTREAM``), and
the owner has ``restore`` create it again from memory.

What is found in a stream may be anything, as others can write there: entries that are no frames are passed over, a key
of another type counts as no stream and is replaced by its owner, and an ID that ours cannot be above is
``StreamFenced``: then Postgres says whose chat it is. Where a frame is refused, and the newest entry has our own
epoch, it is compared with what we have sent, because a failover of Postgres that loses a claim gives one epoch to two
workers.

Order on the live channel. ``open`` adds and publishes in one ``MULTI``, so a tenure's ``open`` is on the channel
before anything that Redis refused because of it. ``append`` is a plain pipeline: it does not wait for the
verdict on an ``XADD`` before the ``PUBLISH`` of the same frame, because that would double the round trips. So

* a refused frame is published all the same, but after the ``open`` that refused it, or, when it is a
  repetition, after itself: a reader drops whatever is not above the last position that it has seen;
* a frame that was admitted just before a newer ``open`` may be published just after it. A reader
  drops that one as well, and has it from the stream, which it reads where a tenure begins and what it has does not
  end with the ``close`` of the one before;
* a frame of a stream that is gone is published, and may be shown: its owner restores the stream with it.

A refused ``open`` is published too, and dropped by readers as the lower position that it is. Whatever is
restored is published again, for those who follow live while the stream was gone.

Length of life. A stream is trimmed when a tenure opens with nothing before it to keep, and by each ``turn``
frame, in the same command that adds the frame, so a refused frame trims nothing. It expires
``EXPIRY_SECONDS`` after a ``close`` frame that was admitted, and ``SAFETY_EXPIRY_SECONDS`` after the last sign of work,
in case nobody is left to close it. A ``close`` that crosses the next tenure's ``open`` on the way may
set the short expiry on a stream in use; the next attempt's frame takes it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import Fenced, StreamFenced, StreamRefused, StreamsUnavailable
from chatcluster.parts import START, Frame, FrameKind, Position, pack_frame, understood
from chatcluster.ports import Appended, Opening, live_channel, same_tenure
from chatcluster.redis.connections import Command, RedisConnection, Reply
from chatcluster.redis.errors import ErrorReply

EXPIRY_SECONDS = 600
"""After its turn has ended a stream can be read for this long."""
SAFETY_EXPIRY_SECONDS = 24 * 3600
RESTORE_FRAMES_MAX = 500
"""Frames in one round trip of ``restore``, so that a long tenure does not run into the deadline."""

READERS_MAX = 12
"""Reads at a time. When a connection is regained each followed chat is read, and what is published must not wait
for all of them: so there are fewer than connections."""
READ_WAIT_SECONDS = 10.0

WORK_KINDS = frozenset({FrameKind.TURN, FrameKind.ATTEMPT, FrameKind.RESUMED})
"""The frames that are a sign of work, and renew the safety expiry."""


class RedisStreams:
    """The part streams of all chats, over one shared connection."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._readers = trio.Semaphore(READERS_MAX)

    def key(self, chat_id: UUID) -> str:
        return f"{self._connection.key_prefix}{{{chat_id}}}:parts"

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        (error,) = await self.open_all([Opening(chat_id, frame, trim)])
        if error is not None:
            raise error

    async def open_all(self, openings: Sequence[Opening]) -> list[Fenced | StreamsUnavailable | None]:
        executed = await self._connection.transactions([self._open(*opening) for opening in openings])
        return [await self._opened(*outcome) for outcome in zip(openings, executed, strict=True)]

    async def _opened(self, opening: Opening, replies: list[Reply] | ErrorReply) -> Fenced | StreamsUnavailable | None:
        try:
            if isinstance(replies, list) and _is_no_stream(replies[0]):
                await self.drop(opening.chat_id)
                (replies,) = await self._connection.transactions([self._open(*opening)])
            if isinstance(replies, ErrorReply):
                raise self._connection.refusal(replies)
            added, *others = replies
            self._require_done(others)
            if self._verdict(added) is not Appended.ADDED:
                await self._require_own(opening.chat_id, [opening.frame])
        except (Fenced, StreamsUnavailable) as error:
            return error
        return None

    async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
        verdicts = await self._add(
            [(self._xadd(*entry), self._publish(*entry)) for entry in entries], self._renewals(entries)
        )
        # A stale owner's close, refused, must not let the stream of its successor expire.
        closed = [
            chat_id
            for (chat_id, frame), verdict in zip(entries, verdicts, strict=True)
            if frame.kind is FrameKind.CLOSE and verdict is Appended.ADDED
        ]
        self._require_done(
            await self._connection.exchange([self._expire(chat_id, EXPIRY_SECONDS) for chat_id in closed])
        )
        return verdicts

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        if not frames:
            return
        last = await self._kept(chat_id, frames)
        lacking = [frame for frame in frames if frame.position > last]
        for start in range(0, len(lacking), RESTORE_FRAMES_MAX):
            # Only the first frame of all may create the stream: one that vanishes meanwhile starts this anew.
            create = last == START and start == 0
            verdicts = await self._restore(chat_id, lacking[start : start + RESTORE_FRAMES_MAX], create=create)
            if Appended.REFUSED in verdicts:
                await self._require_own(chat_id, frames)
            if Appended.MISSING in verdicts:
                raise StreamsUnavailable("the stream vanished while it was restored")
        closed = frames[-1].kind is FrameKind.CLOSE
        expiry = self._expire(chat_id, EXPIRY_SECONDS if closed else SAFETY_EXPIRY_SECONDS)
        self._require_done(await self._connection.exchange([expiry]))

    async def drop(self, chat_id: UUID) -> None:
        telemetry.event("stream.dropped", chat_id=str(chat_id))
        self._require_done(await self._connection.exchange([("UNLINK", self.key(chat_id))]))

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        with trio.move_on_after(READ_WAIT_SECONDS):
            await self._readers.acquire()
            try:
                (reply,) = await self._connection.exchange(
                    [("XRANGE", self.key(chat_id), f"({after}", "+", "COUNT", limit)]
                )
                return self._frames(reply)
            finally:
                self._readers.release()
        raise StreamsUnavailable(f"a stream could not be read within {READ_WAIT_SECONDS:g} s")

    async def _restore(self, chat_id: UUID, frames: Sequence[Frame], *, create: bool) -> list[Appended]:
        return await self._add(
            [
                (self._xadd(chat_id, frame, create=create and index == 0), self._publish(chat_id, frame))
                for index, frame in enumerate(frames)
            ]
        )

    async def _add(
        self, additions: Sequence[tuple[Command, Command]], further: Sequence[Command] = ()
    ) -> list[Appended]:
        """Send each ``XADD`` with its ``PUBLISH``, in one round trip; what became of the former."""
        commands = [command for addition in additions for command in addition]
        replies = await self._connection.exchange([*commands, *further])
        verdicts = [self._verdict(reply) for reply in replies[: len(commands) : 2]]
        self._require_done([*replies[1 : len(commands) : 2], *replies[len(commands) :]])
        return verdicts

    # --- whose stream it is -------------------------------------------------------------------

    async def _kept(self, chat_id: UUID, frames: Sequence[Frame]) -> Position:
        """The highest position of a stream that has nothing but what ``frames`` may follow; ``START`` if there is none.

        Raises ``StreamFenced`` for one that has.
        """
        key, epoch = self.key(chat_id), frames[0].position.epoch
        last = await self._entry(chat_id, ("XREVRANGE", key, "+", "-", "COUNT", 1))
        if last is None:
            return START
        if last.position.epoch == epoch:
            first = await self._entry(chat_id, ("XRANGE", key, f"{epoch}-0", str(epoch), "COUNT", 1))
            if same_tenure(last, frames, first):
                return last.position
        if last.position.epoch >= epoch:
            raise StreamFenced(f"the stream has {last.position} of another tenure", epoch=last.position.epoch)
        return last.position

    async def _require_own(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        """One of ``frames`` was refused. Return if that is because its own tenure is in the stream."""
        last = await self._kept(chat_id, frames)
        if last.epoch < frames[0].position.epoch:
            raise StreamsUnavailable("the stream vanished after it had refused a frame")

    async def _entry(self, chat_id: UUID, command: Command) -> Frame | None:
        """The only entry of a range; None if there is none. What is no stream is dropped, and has none."""
        (reply,) = await self._connection.exchange([command])
        if _is_no_stream(reply):
            await self.drop(chat_id)
            return None
        return next(iter(self._frames(reply)), None)

    # --- replies ------------------------------------------------------------------------------

    def _frames(self, reply: Reply) -> list[Frame]:
        if _is_no_stream(reply):
            return []
        if isinstance(reply, ErrorReply):
            raise self._connection.refusal(reply)
        if not isinstance(reply, list):
            raise StreamsUnavailable("Redis answered a range of a stream with what is none")
        return [_frame(entry) for entry in reply]

    def _require_done(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise self._connection.refusal(reply)

    def _verdict(self, reply: Reply) -> Appended:
        """What became of an ``XADD``. Raises ``StreamsUnavailable`` for an error that concerns the server.

        Redis has no code for an ID that is too low, so its text is looked at. Whatever else is wrong with this stream
        is for its owner's ``restore`` to find out, as the other frames of the batch are none the worse for it.
        """
        if not isinstance(reply, ErrorReply):
            return Appended.MISSING if reply is None else Appended.ADDED
        if "equal or smaller" in str(reply) or "exhausted the last possible ID" in str(reply):
            return Appended.REFUSED
        error = self._connection.refusal(reply)
        if isinstance(error, StreamRefused):
            return Appended.MISSING
        raise error

    # --- commands -----------------------------------------------------------------------------

    def _open(self, chat_id: UUID, frame: Frame, trim: bool) -> list[Command]:
        return [
            self._xadd(chat_id, frame, create=True, trim=trim),
            self._expire(chat_id, SAFETY_EXPIRY_SECONDS),
            self._publish(chat_id, frame),
        ]

    def _xadd(self, chat_id: UUID, frame: Frame, *, create: bool = False, trim: bool = False) -> Command:
        position = str(frame.position)
        return (
            "XADD",
            self.key(chat_id),
            *(() if create else ("NOMKSTREAM",)),
            *(("MINID", "=", position) if trim or frame.kind is FrameKind.TURN else ()),
            position,
            "kind",
            frame.kind.value,
            "data",
            frame.data,
        )

    def _publish(self, chat_id: UUID, frame: Frame) -> Command:
        return ("PUBLISH", self._connection.channel_prefix + live_channel(chat_id), pack_frame(frame))

    def _expire(self, chat_id: UUID, seconds: int) -> Command:
        return ("EXPIRE", self.key(chat_id), seconds)

    def _renewals(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Command]:
        return [self._expire(chat_id, SAFETY_EXPIRY_SECONDS) for chat_id, frame in entries if frame.kind in WORK_KINDS]


def _is_no_stream(reply: Reply) -> bool:
    return isinstance(reply, ErrorReply) and reply.code == "WRONGTYPE"


def _frame(entry: Any) -> Frame:
    """The frame of an entry, of kind ``UNKNOWN`` for what is none. Raises ``StreamsUnavailable``
    where there is no ID.
    """
    match entry:
        case [bytes(entry_id), [b"kind", bytes(kind), b"data", bytes(data)]]:
            return understood(Frame(_position(entry_id), FrameKind(kind.decode(errors="replace")), data))
        case [bytes(entry_id), *_]:
            return Frame(_position(entry_id), FrameKind.UNKNOWN, b"")
    raise StreamsUnavailable("Redis answered a range of a stream with what are no entries")


def _position(entry_id: bytes) -> Position:
    try:
        return Position.parse(entry_id.decode())
    except ValueError:
        raise StreamsUnavailable("Redis answered a range of a stream with what are no entries") from None
