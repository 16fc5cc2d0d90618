"""A part stream that is ahead of Postgres: Postgres wins.

A stream has frames where a tenure's own would go, of its epoch or a higher one. As a rule that tenure is over. But
what is there may be garbage, or of a tenure that Postgres has forgotten in a failover: where the server does not tell
its timeline, or the claim was an older version's, the same epoch may have been given twice, and the other worker goes
on until its lease ends. Postgres is asked, and if the chat is still this tenure's,

1. the epoch is raised in Postgres above what is in the stream, by a write that is fenced like any other. So the order
   of epochs stays the order of tenures, in both. The snapshot version leaps as well, and history counts as rewritten:
   versions that Postgres has forgotten are not given out again, and readers that saw them are told to start anew;
2. a stream with an epoch that leaves no room above is dropped: what it had is garbage;
3. the tenure opens again under its new epoch, with what it has in memory. Nothing below it can be added from then on,
   and nothing of two tenures is mixed for a reader, who turns to the new one when the database names it;
4. an answer that was complete by then, and waited for its commit, is committed with the position that its last frame
   has now (``placed``): readers are shown its words up to there before it.

On failure: Postgres cannot be reached: tried again, for as long as the lease lasts. Redis cannot be reached: the
publisher tries again, and finds the same. A writer that goes on adding to the stream is overruled ``OVERRULES_MAX``
times; after that the tenure has no live parts, and everything durable is as ever.
"""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.chat import CommitStep, FinishInterruption, FinishTurn, OwnerCommand, Retry, ScheduleRetry
from chatcluster.errors import StreamsUnavailable
from chatcluster.parts import NewMessage, Position
from chatcluster.ports import Chat, PartStreams, Store
from chatcluster.repeats import until_known
from chatcluster.tenure_stream import EPOCH_MAX, TenureStream

OVERRULES_MAX = 8

P = TypeVar("P", NewMessage, Retry)


class Overruling:
    """What the runner of one tenure has done when the chat's stream is ahead of Postgres."""

    def __init__(self, store: Store, streams: PartStreams, stream: TenureStream, worker_id: UUID) -> None:
        self._store = store
        self._streams = streams
        self._stream = stream
        self._worker_id = worker_id
        self._count = 0
        self._former_epochs: set[int] = set()
        """Epochs that were overruled after an attempt began: its frames are sent again under the present epoch."""

    @property
    def is_due(self) -> bool:
        """Whether the stream has been found to be another tenure's."""
        return self._stream.overtaken_by is not None

    async def overrule(self, chat_id: UUID) -> Chat:
        """Go on above what is in the stream; the chat as it is then. Raises ``Fenced`` if the tenure is over."""
        stream, found = self._stream, self._stream.overtaken_by or 0
        above = stream.epoch_above
        chat = await until_known(
            lambda: self._store.raise_epoch(chat_id, self._worker_id, epoch=stream.epoch, above=above), chat_id
        )
        if stream.has_attempted:
            self._former_epochs.add(stream.epoch)
        self._count += 1
        telemetry.event("stream.overruled", chat_id=str(chat_id), found=found, epoch=chat.epoch, count=self._count)
        if found >= EPOCH_MAX:
            await self._drop(chat_id)
        if self._count > OVERRULES_MAX:
            stream.given_up()
        else:
            stream.overrule(chat.epoch)
        return chat

    def placed(self, command: OwnerCommand) -> OwnerCommand:
        """``command`` with the positions that the frames of its messages, or of what failed, have now."""
        match command:
            case FinishTurn(messages) | CommitStep(messages):
                return msgspec.structs.replace(command, messages=tuple(map(self._placed, messages)))
            case FinishInterruption(partial) if partial is not None:
                return msgspec.structs.replace(command, partial=self._placed(partial))
            case ScheduleRetry(retry):
                return msgspec.structs.replace(command, retry=self._placed(retry))
        return command

    def _placed(self, positioned: P) -> P:
        if not self._former_epochs or positioned.position is None:
            return positioned
        epoch, seq = Position.parse(positioned.position)
        if epoch not in self._former_epochs:
            return positioned  # the last words of an older tenure are where they were
        return msgspec.structs.replace(positioned, position=str(Position(self._stream.epoch, seq)))

    async def _drop(self, chat_id: UUID) -> None:
        try:
            await self._streams.drop(chat_id)
        except StreamsUnavailable as error:  # then the tenure finds it there again
            telemetry.event("stream.not_dropped", chat_id=str(chat_id), error=str(error))
