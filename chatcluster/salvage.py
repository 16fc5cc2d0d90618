"""What a dead tenure had said: the words of its last attempt, read from the part stream.

Used when a chat whose interruption was under way is taken over. The caller has opened its own tenure on
the stream before, so nothing can be added to the older ones any more: what is read here is all that
there will ever be, and all that any reader may have seen.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from chatcluster import telemetry
from chatcluster.attempt import Said
from chatcluster.errors import StreamsUnavailable
from chatcluster.parts import START, UNDECODABLE, AttemptFrame, FrameKind, Part, PartFrame, Position, decode_frame
from chatcluster.ports import Chat, PartStreams

READ_FRAMES = 500
SALVAGE_SECONDS_MAX = 2.0


async def salvage(streams: PartStreams, chat: Callable[[], Chat], opened: trio.Event) -> Said:
    """What the tenures before that of ``chat`` had said, once it is ``opened``; without Redis nothing, and soon.

    The chat is asked for then, because to open its tenure may have taken a higher epoch.
    """
    with trio.move_on_after(SALVAGE_SECONDS_MAX):
        await opened.wait()
        try:
            return await last_attempt(streams, chat())
        except StreamsUnavailable as error:
            telemetry.event("runner.partial_unreadable", chat_id=str(chat().id), error=str(error))
    return Said()


async def last_attempt(streams: PartStreams, chat: Chat) -> Said:
    """The last attempt of the tenures before ``chat.epoch``, if it builds on the history of ``chat``.

    An attempt that failed or that was committed is not it. Of one with a hole, which Redis has lost, only what comes
    before the hole is kept. Raises ``StreamsUnavailable``.
    """
    said: list[Part] = []
    position: Position | None = None
    in_last_attempt = False
    after = START
    while True:
        frames = await streams.read(chat.id, after=after, limit=READ_FRAMES)
        for entry in frames:
            before, after = after, entry.position
            if after != (before.epoch, before.seq + 1):
                in_last_attempt = False
            if after.epoch >= chat.epoch:
                return Said(tuple(said), position)
            if entry.kind not in (FrameKind.ATTEMPT, FrameKind.PART):
                continue
            try:
                body = decode_frame(entry.data)
            except UNDECODABLE:
                continue  # a part of a kind that this version does not know cannot be kept by it
            if isinstance(body, AttemptFrame):
                said, position = [], None
                in_last_attempt = body.history_version == chat.history_version and body.attempt > chat.failed_attempt
            elif isinstance(body, PartFrame) and in_last_attempt:
                said.append(body.part)
                position = after
        if len(frames) < READ_FRAMES:
            return Said(tuple(said), position)
