"""``PartStreams`` on Redis streams.

One stream per chat, ``chatcluster:{<chat_id>}:parts``. A frame's position is its entry's ID, ``<epoch>-<seq>``, given
explicitly, and Redis refuses an ID that is not above the last one. That is the fence: once a
tenure's first entry ``<epoch>-0`` is in, nothing of an older tenure can be added, by whomever and
however late. Neither a script nor a lock is needed, and every frame can be sent twice without harm.

Who is authoritative: Postgres, always. A stream may vanish at any moment (Redis restarted empty,
expiry); then ``append`` says ``MISSING`` rather than create a stream that lacks its beginning (``NOMKSTREAM``), and
the owner has ``restore`` create it again from memory.

Order on the live channel. ``open`` adds and publishes in one ``MULTI``, so a tenure's ``open`` is on the channel
before anything that Redis refused because of it. ``append`` is a plain pipeline: it does not wait for the
verdict on an ``XADD`` before the ``PUBLISH`` of the same frame, because that would double the round trips. So

* a refused frame is published all the same, but after the ``open`` that refused it, or, when it is a
  repetition, after itself: a reader drops whatever is not above the last position that it has seen;
* a frame that was admitted just before a newer ``open`` may be published just after it. A reader
  drops that one as well, and has it from the stream, which it reads when it turns to a new tenure;
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

from chatcluster.errors import Fenced, StreamsUnavailable
from chatcluster.parts import START, Frame, FrameKind, Position, pack_frame
from chatcluster.ports import Appended, Opening, live_channel
from chatcluster.redis import Command, ErrorReply, RedisConnection, Reply

EXPIRY_SECONDS = 600
"""After its turn has ended a stream can be read for this long."""
SAFETY_EXPIRY_SECONDS = 24 * 3600
RESTORE_FRAMES_MAX = 500
"""Frames in one round trip of ``restore``, so that a long tenure does not run into the deadline."""

READERS_MAX = 12
"""Reads at a time. When a connection is regained each followed chat is read, and what is published must not wait
for all of them: so there are fewer than connections."""
READ_WAIT_SECONDS = 10.0

WORK_KINDS = frozenset({FrameKind.TURN, FrameKind.ATTEMPT})
"""The frames that are a sign of work, and renew the safety expiry."""


def stream_key(chat_id: UUID) -> str:
    return f"chatcluster:{{{chat_id}}}:parts"


class RedisStreams:
    """The part streams of all chats, over one shared connection."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._readers = trio.Semaphore(READERS_MAX)

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        (error,) = await self.open_all([Opening(chat_id, frame, trim)])
        if error is not None:
            raise error

    async def open_all(self, openings: Sequence[Opening]) -> list[Fenced | StreamsUnavailable | None]:
        executed = await self._connection.transactions([_open(*opening) for opening in openings])
        return [await self._opened(*outcome) for outcome in zip(openings, executed, strict=True)]

    async def _opened(self, opening: Opening, replies: list[Reply] | ErrorReply) -> Fenced | StreamsUnavailable | None:
        try:
            if isinstance(replies, ErrorReply):
                raise StreamsUnavailable(f"Redis refused a transaction: {replies}")
            added, *others = replies
            _require_done(others)
            if _verdict(added) is Appended.REFUSED:
                await self._require_tenure(opening.chat_id, opening.frame.position)
        except (Fenced, StreamsUnavailable) as error:
            return error
        return None

    async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
        verdicts = await self._add([(_xadd(*entry), _publish(*entry)) for entry in entries], _renewals(entries))
        # A stale owner's close, refused, must not let the stream of its successor expire.
        closed = [
            chat_id
            for (chat_id, frame), verdict in zip(entries, verdicts, strict=True)
            if frame.kind is FrameKind.CLOSE and verdict is Appended.ADDED
        ]
        _require_done(await self._connection.exchange([_expire(chat_id, EXPIRY_SECONDS) for chat_id in closed]))
        return verdicts

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        if not frames:
            return
        last = await self._last(chat_id)
        _refuse_newer(last, frames[-1].position)
        lacking = [frame for frame in frames if frame.position > last]
        for start in range(0, len(lacking), RESTORE_FRAMES_MAX):
            # Only the first frame of all may create the stream: one that vanishes meanwhile starts this anew.
            create = last == START and start == 0
            await self._restore(chat_id, lacking[start : start + RESTORE_FRAMES_MAX], create=create)
        closed = frames[-1].kind is FrameKind.CLOSE
        expiry = _expire(chat_id, EXPIRY_SECONDS if closed else SAFETY_EXPIRY_SECONDS)
        _require_done(await self._connection.exchange([expiry]))

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        with trio.move_on_after(READ_WAIT_SECONDS):
            await self._readers.acquire()
            try:
                return await self._entries(("XRANGE", stream_key(chat_id), f"({after}", "+", "COUNT", limit))
            finally:
                self._readers.release()
        raise StreamsUnavailable(f"a stream could not be read within {READ_WAIT_SECONDS:g} s")

    async def _restore(self, chat_id: UUID, frames: Sequence[Frame], *, create: bool) -> None:
        verdicts = await self._add(
            [
                (_xadd(chat_id, frame, create=create and index == 0), _publish(chat_id, frame))
                for index, frame in enumerate(frames)
            ]
        )
        if Appended.REFUSED in verdicts:
            await self._require_tenure(chat_id, frames[-1].position)
        if Appended.MISSING in verdicts:
            raise StreamsUnavailable("the stream vanished while it was restored")

    async def _add(
        self, additions: Sequence[tuple[Command, Command]], further: Sequence[Command] = ()
    ) -> list[Appended]:
        """Send each ``XADD`` with its ``PUBLISH``, in one round trip; what became of the former."""
        commands = [command for addition in additions for command in addition]
        replies = await self._connection.exchange([*commands, *further])
        verdicts = [_verdict(reply) for reply in replies[: len(commands) : 2]]
        _require_done([*replies[1 : len(commands) : 2], *replies[len(commands) :]])
        return verdicts

    async def _require_tenure(self, chat_id: UUID, position: Position) -> None:
        """A frame at ``position`` was refused. Return if that is because its own tenure is in the stream."""
        last = await self._last(chat_id)
        _refuse_newer(last, position)
        if last.epoch < position.epoch:
            raise StreamsUnavailable("the stream vanished after it had refused a frame")

    async def _last(self, chat_id: UUID) -> Position:
        """The highest position of the stream, ``START`` if there is none."""
        entries = await self._entries(("XREVRANGE", stream_key(chat_id), "+", "-", "COUNT", 1))
        return entries[0].position if entries else START

    async def _entries(self, command: Command) -> list[Frame]:
        (reply,) = await self._connection.exchange([command])
        if not isinstance(reply, list):
            raise StreamsUnavailable("Redis: " + str(reply))
        return [_frame(entry) for entry in reply]


def _open(chat_id: UUID, frame: Frame, trim: bool) -> list[Command]:
    return [
        _xadd(chat_id, frame, create=True, trim=trim),
        _expire(chat_id, SAFETY_EXPIRY_SECONDS),
        _publish(chat_id, frame),
    ]


def _xadd(chat_id: UUID, frame: Frame, *, create: bool = False, trim: bool = False) -> Command:
    position = str(frame.position)
    return (
        "XADD",
        stream_key(chat_id),
        *(() if create else ("NOMKSTREAM",)),
        *(("MINID", "=", position) if trim or frame.kind is FrameKind.TURN else ()),
        position,
        "kind",
        frame.kind.value,
        "data",
        frame.data,
    )


def _publish(chat_id: UUID, frame: Frame) -> Command:
    return ("PUBLISH", live_channel(chat_id), pack_frame(frame))


def _expire(chat_id: UUID, seconds: int) -> Command:
    return ("EXPIRE", stream_key(chat_id), seconds)


def _renewals(entries: Sequence[tuple[UUID, Frame]]) -> list[Command]:
    return [_expire(chat_id, SAFETY_EXPIRY_SECONDS) for chat_id, frame in entries if frame.kind in WORK_KINDS]


def _require_done(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, ErrorReply):
            raise StreamsUnavailable(f"Redis: {reply}")


def _verdict(reply: Reply) -> Appended:
    """What became of an ``XADD``. Raises ``StreamsUnavailable`` for an error that is not about the ID."""
    if reply is None:
        return Appended.MISSING
    if not isinstance(reply, ErrorReply):
        return Appended.ADDED
    if "equal or smaller" in str(reply):
        return Appended.REFUSED
    raise StreamsUnavailable(f"Redis: {reply}")


def _refuse_newer(last: Position, position: Position) -> None:
    if last.epoch > position.epoch:
        raise Fenced(f"tenure {last.epoch} has opened the stream; {position.epoch} is over")


def _frame(entry: list[Any]) -> Frame:
    entry_id, (_, kind, _, data) = entry
    return Frame(Position.parse(entry_id.decode()), FrameKind(kind.decode()), data)
