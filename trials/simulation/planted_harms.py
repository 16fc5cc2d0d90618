"""Bugs to plant that let one chat harm another (P10); the others, and how they are planted, are in ``planted.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
import trio

from chatcluster.attempt import Attempt
from chatcluster.chat import OwnerCommand, Status
from chatcluster.errors import Fenced, StoreLocked, StreamRefused, StreamsUnavailable, Unreadable
from chatcluster.histories import History
from chatcluster.memory import MemoryRegistry, MemoryStore, MemoryStreams
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import Message, NewMessage
from chatcluster.ports import Chat, Claimed, Gap, Hint, ModelRequest, Opening
from chatcluster.runner import Runner
from chatcluster.tenure_stream import TenureStream
from chatcluster.turn_ends import TurnEnds

_hints = msgspec.json.Decoder(Hint)
Patch = tuple[object, str, Any]


def claim_reads_histories() -> list[Patch]:
    """A claim reads the histories of what it claims: one that cannot be read fails the whole batch."""
    from simulation.watched import WatchedStore

    claim = WatchedStore._claim

    def read_all(self: WatchedStore, worker_id: UUID, free_slots: int, batch: int) -> tuple[Claimed, ...]:
        for row in self._claimable(Status.RUNNING)[:batch]:
            if row.id in self._harmed.unreadable | self._harmed.deadly:
                raise Unreadable("a message that this version cannot read")
        return claim(self, worker_id, free_slots, batch)

    return [(WatchedStore, "_claim", read_all)]


def claim_without_skip_locked() -> list[Patch]:
    """A claim waits for the row that somebody holds, until it is tired of that."""
    from simulation.watched import WatchedStore

    def waiting(self: WatchedStore, status: Status) -> list[ChatRow]:
        rows = MemoryStore._claimable(self, status)
        if any(self._harmed.is_locked(row.id) for row in rows):
            raise StoreLocked("somebody holds the row of a chat")
        return rows

    return [(WatchedStore, "_claimable", waiting)]


def burial_without_skip_locked() -> list[Patch]:
    """A burial waits for the rows that somebody holds, and frees all chats of the dead or none."""

    def all_of_them(self: MemoryRegistry, worker_id: UUID) -> tuple[ChatRow, ...]:
        owned = self._database.owned_by(worker_id)
        if any(row.id in self._database.locked_rows for row in owned):
            raise StoreLocked("somebody holds the row of a chat")
        return owned

    return [(MemoryRegistry, "_unlocked", all_of_them)]


def one_failure_fails_the_pipeline() -> list[Patch]:
    """Redis refuses to work on one of the streams that are opened together, and all are tried again, with that one."""
    open_all = MemoryStreams.open_all

    async def all_or_none(self: MemoryStreams, openings: Sequence[Opening]) -> list[Fenced | StreamsUnavailable | None]:
        outcomes = await open_all(self, openings)
        if any(isinstance(outcome, StreamRefused) for outcome in outcomes):
            raise StreamsUnavailable("the pipeline failed")
        return outcomes

    return [(MemoryStreams, "open_all", all_or_none)]


def takeover_counts_as_attempt() -> list[Patch]:
    """A tenure that did not end in order costs its chat a try of the model."""
    from simulation.watched import WatchedStore

    take = WatchedStore._take

    def charge(self: WatchedStore, row: ChatRow, worker_id: UUID) -> Claimed:
        state = row.state
        row.state = msgspec.structs.replace(state, failures=state.failures + (state.takeovers > 0))
        return take(self, row, worker_id)

    return [(WatchedStore, "_take", charge)]


def unbounded_takeovers() -> list[Patch]:
    """A chat that ends each replica that works on it is given to the next one, for ever."""

    def deadly(self: Runner) -> bool:
        return False

    return [(Runner, "_deadly", property(deadly))]


def fifo_claims() -> list[Patch]:
    """The chat that waits longest is first, however many its user has before it."""

    def oldest_first(self: MemoryStore, worker_id: UUID, free_slots: int) -> list[ChatRow]:
        return self._claimable(Status.RUNNING)

    return [(MemoryStore, "_by_turns", oldest_first)]


def kept_places() -> list[Patch]:
    """A chat whose queue never gets empty keeps its place in a full replica."""

    async def end(self: TurnEnds, command: OwnerCommand, word: str) -> None:
        await end_of_turn(self, command, word)
        self.gives_way = False

    end_of_turn = TurnEnds.end
    return [(TurnEnds, "end", end)]


def histories_one_by_one() -> list[Patch]:
    """A replica reads one history at a time, however long that takes."""
    read = History._read

    async def in_turn(self: History, chat: Chat, tokens_max: float) -> list[Message]:
        if not hasattr(self._places, "reading"):
            self._places.reading = trio.Lock()  # type: ignore[attr-defined]
        async with self._places.reading:  # type: ignore[attr-defined]
            return await read(self, chat, tokens_max)

    return [(History, "_read", in_turn)]


def one_model_connection() -> list[Patch]:
    """A replica asks one model server at a time, however long that takes."""
    run = Attempt.run

    async def in_turn(self: Attempt, request: ModelRequest) -> NewMessage:
        publisher: Any = cast(TenureStream, self._stream)._publisher
        if not hasattr(publisher, "asking"):
            publisher.asking = trio.Lock()
        async with publisher.asking:
            return await run(self, request)

    return [(Attempt, "run", in_turn)]


def trusted_hints() -> list[Patch]:
    """Whatever comes on a channel of hints is a hint."""
    from chatcluster import tenures

    def decoded(payload: bytes | Gap) -> Hint | None:
        return None if isinstance(payload, Gap) else _hints.decode(payload)

    return [(tenures, "hint_in", decoded)]


HARMFUL: tuple[Callable[[], list[Patch]], ...] = (
    claim_reads_histories,
    claim_without_skip_locked,
    burial_without_skip_locked,
    one_failure_fails_the_pipeline,
    takeover_counts_as_attempt,
    unbounded_takeovers,
    fifo_claims,
    kept_places,
    histories_one_by_one,
    one_model_connection,
    trusted_hints,
)
