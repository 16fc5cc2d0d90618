"""Known bugs to plant, each a mistake that somebody could make: the simulation has to find them.

``planted(name)`` puts one in for the length of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Literal
from unittest.mock import patch
from uuid import UUID

import msgspec
import trio

from chatcluster.attempt import Said
from chatcluster.billing import Unbooked
from chatcluster.chat import ChatState, Decision, Fence, FinishTurn, OwnerCommand, decide
from chatcluster.errors import Moved
from chatcluster.events import StatusEvent
from chatcluster.failure_detector import FailureDetector
from chatcluster.feed import Feed
from chatcluster.heartbeat import Lease
from chatcluster.held_chat import HeldChat
from chatcluster.memory import MemoryDatabase, MemoryRegistry, MemoryStore
from chatcluster.memory.database import HeldLock
from chatcluster.memory.tables import ChatRow, UsageKey, UsageRow
from chatcluster.merge import Merge
from chatcluster.parts import Cursor, Frame, Message, Position
from chatcluster.ports import (
    Appended,
    Booking,
    Death,
    Gap,
    Heartbeat,
    Hint,
    Idempotency,
    Outcome,
    Proof,
    Silence,
)
from chatcluster.preview import Preview
from chatcluster.relay import Relay
from chatcluster.subscribe import Feeds
from chatcluster.subscriber import Subscriber
from chatcluster.tenures import Tenures
from chatcluster.turn_ends import TurnEnds
from chatcluster.usage import Spent
from simulation.network import Weather
from simulation.planted_families import WITH_AGENTS
from simulation.planted_harms import HARMFUL, Patch
from simulation.planted_questions import WITH_QUESTIONS
from simulation.planted_summaries import WITH_SUMMARIES
from simulation.planted_tools import WITH_TOOLS

_hints = msgspec.json.Decoder(Hint)


def no_epoch_check() -> list[Patch]:
    """What an owner writes is let through, also if the chat has another owner by now."""
    commit = MemoryStore._commit

    def lenient(self: MemoryStore, fence: Fence, command: OwnerCommand, spent: tuple[Spent, ...]) -> Outcome:
        row = self._database.chats[fence.chat_id]
        if row.state.runnable:
            fence = msgspec.structs.replace(fence, worker_id=row.state.worker_id, epoch=row.state.epoch)
        return commit(self, fence, command, spent)

    return [(MemoryStore, "_commit", lenient)]


def hint_as_data() -> list[Patch]:
    """Feeds show the status that a hint says, without a look into the database."""

    def hear(self: Feed, payload: bytes | Gap) -> Literal[True]:
        if not isinstance(payload, Gap):
            hint = _hints.decode(payload)
            self.look(hint.snapshot_version)
            status = StatusEvent(hint.status, False, hint.epoch, hint.worker_id)
            self.shown._hand_out(status, Cursor(self.shown.version, self.shown.position))
        return True

    return [(Feed, "_hear", hear)]


def unbounded_lease_trust() -> list[Patch]:
    """A replica that cannot renew its lease goes on for ever."""

    async def trust(self: Lease) -> None:
        await trio.sleep_forever()

    return [(Lease, "_fence_ourselves", trust)]


def cursor_by_message_id() -> list[Patch]:
    """A reader resumes after the last message that it has, by its ID; the version of its cursor is forgotten."""
    attach = Feeds._attach

    def forgetful(self: Feeds, feed: Feed, cursor: Cursor, kind: type[Subscriber]) -> Subscriber:
        messages: list[Message] = self._store._database.chats[feed.chat_id].messages  # type: ignore[attr-defined]
        seen = [message.id for message in messages if message.revision <= cursor.version]
        if cursor.version and seen:
            last_id = cursor.message_id or max(seen)
            cursor = Cursor(feed.shown.snapshot().version, cursor.position, last_id)
        return attach(self, feed, cursor, kind)

    return [(Feeds, "_attach", forgetful)]


def dial_without_worker_id() -> list[Patch]:
    """What a dial yields does not say whose it is: it is taken for the work of the worker that was dialled."""

    async def pass_on(self: Relay, frames: Iterable[Frame]) -> None:
        ours = [Frame(Position(self.target.epoch, entry.position.seq), entry.kind, entry.data) for entry in frames]
        await self._hand_over([entry for entry in ours if entry.position > self.position])

    return [(Relay, "_pass_on", pass_on)]


def unnoticed_gap() -> list[Patch]:
    """Live frames are passed on and shown as they come, whether they follow the last one or not."""

    def continues(self: Relay, frames: Iterable[Frame]) -> bool:
        return True

    def takes(self: Preview, frame: Frame) -> bool:
        return True

    return [(Relay, "_continues", continues), (Preview, "takes", takes)]


def no_stream_fence() -> list[Patch]:
    """The stream takes frames of a tenure that is over, behind those of the next."""
    from simulation.watched import WatchedStreams

    def append(self: WatchedStreams, chat_id: UUID, frame: Frame) -> Appended:
        row = self._broker.stream(chat_id)
        if row is None:
            return Appended.MISSING
        self._witness.framed(chat_id, frame, row.last)
        row.frames.append(frame)
        row.last = frame.position
        return Appended.ADDED

    return [(WatchedStreams, "_append", append)]


def unrecognised_commit() -> list[Patch]:
    """A commit whose answer was lost is simply made again."""

    def again(self: MemoryStore, fence: Fence, command: OwnerCommand, _: Booking) -> Outcome:
        row = self._database.chats[fence.chat_id]
        current = msgspec.structs.replace(fence, history_version=row.state.history_version)
        if fence.epoch == row.state.epoch and isinstance(command, FinishTurn) and not row.state.runnable:
            state: ChatState = msgspec.structs.replace(row.state, status="running", worker_id=fence.worker_id)
            return self._write(row, decide(state, command, current))
        return self._write(row, decide(row.state, command, current))

    return [(MemoryStore, "_commit", again)]


def forgotten_idempotency() -> list[Patch]:
    """A request that is repeated under its key is carried out again."""

    def never(self: MemoryStore, owner_id: UUID, idempotency: Idempotency | None) -> None:
        return None

    return [(MemoryStore, "_once", never)]


def no_poll() -> list[Patch]:
    """Feeds rely on hints alone."""

    async def poll(self: Feeds) -> None:
        await trio.sleep_forever()

    return [(Feeds, "_poll", poll)]


def commits_out_of_turn() -> list[Patch]:
    """What was committed on a reader's own replica is shown as it comes, whatever lies before it."""

    def continues(self: Merge, outcome: Outcome) -> bool:
        return outcome.chat.snapshot_version > self.chat.snapshot_version

    return [(Merge, "_continues", continues)]


def impatient_messages() -> list[Patch]:
    """A message is shown when it is read, before the frames that it came from: where those take a little longer."""

    def shown(self: Merge, message: Message) -> bool:
        return True

    return [(Merge, "_frames_shown", shown), (Weather, "redis_far_seconds", 0.002)]


def outdated_frames() -> list[Patch]:
    """Frames are shown whatever attempt they belong to."""

    def current(self: Merge) -> bool:
        return True

    return [(Merge, "_is_current", current)]


def lost_partials() -> list[Patch]:
    """An interrupt keeps nothing of what was said."""
    finish = TurnEnds.finish_interruption

    async def forget(self: TurnEnds) -> None:
        self._held.said = Said()
        await finish(self)

    return [(TurnEnds, "finish_interruption", forget)]


def ignored_interrupts() -> list[Patch]:
    """A runner that is told to look does not."""

    async def look(self: HeldChat) -> None:
        await trio.sleep_forever()

    return [(HeldChat, "look_when_told", look)]


def swallowed_moves() -> list[Patch]:
    """A history that moved under a runner does not concern it."""
    from chatcluster.chat import decisions

    check = decisions.check_fence

    def lenient(state: ChatState, fence: Fence) -> None:
        try:
            check(state, fence)
        except Moved:
            return

    return [(decisions, "check_fence", lenient)]


def message_without_an_epoch() -> list[Patch]:
    """A message that claims its chat leaves the epoch as it is."""

    def claim(self: MemoryStore, before: ChatState | None, decision: Decision, worker_id: UUID | None) -> Decision:
        with_claim = with_claim_of(self, before, decision, worker_id)
        state = msgspec.structs.replace(with_claim.state, epoch=max(1, decision.state.epoch))
        return decision if with_claim is decision else msgspec.structs.replace(with_claim, state=state)

    with_claim_of = MemoryStore._with_claim
    return [(MemoryStore, "_with_claim", claim)]


def forgotten_strays() -> list[Patch]:
    """A chat that is ours in the database alone, as the answer to its claim or message was lost, is left so."""

    async def leave(self: Tenures) -> None:
        await trio.lowlevel.checkpoint()

    return [(Tenures, "return_strays", leave)]


def wall_clock_leases() -> list[Patch]:
    """A lease is over when the database's clock says so."""

    def observe(self: FailureDetector, heartbeats: Mapping[UUID, Heartbeat], now: float) -> dict[UUID, Silence]:
        return {
            worker_id: Silence(heartbeat.token)
            for worker_id, heartbeat in heartbeats.items()
            if not heartbeat.token or heartbeat.age_seconds >= self._lease_ttl_seconds
        }

    return [(FailureDetector, "observe", observe)]


def one_connection_is_a_life() -> list[Patch]:
    """Whoever sees one session lock free takes its holder for dead."""

    def locks_of(self: MemoryRegistry, worker_id: UUID) -> list[HeldLock] | None:
        lock = self._database.locks.get((worker_id, 0))
        return None if lock is None else [lock]

    return [(MemoryRegistry, "_locks_of", locks_of)]


def deaths_of_the_old_primary() -> list[Patch]:
    """A lock that is let go of proves a death, on whatever server it was held."""
    holds = MemoryRegistry._holds

    def anywhere(self: MemoryRegistry, worker_id: UUID, proof: Proof) -> bool:
        return isinstance(proof, Death) or holds(self, worker_id, proof)

    return [(MemoryRegistry, "_holds", anywhere)]


def forgotten_versions_again() -> list[Patch]:
    """A server that takes over gives out the versions of the transactions that it has lost."""

    def found(self: MemoryDatabase, row: ChatRow) -> ChatState:
        return msgspec.structs.replace(row.state, timeline=self.timeline)

    return [(MemoryDatabase, "found", found)]


def forgotten_money() -> list[Patch]:
    """What an answer cost that the chat moved under is forgotten with the answer."""

    def moved(self: Unbooked) -> None:
        self._spent.clear()

    return [(Unbooked, "moved", moved)]


def money_twice() -> list[Patch]:
    """An attempt is known by the commit that books it, so what goes with two of them is booked twice."""

    def book(self: MemoryDatabase, row: ChatRow, spent: Booking) -> None:
        for one in spent:
            key = UsageKey(row.id, row.state.snapshot_version, len(self.kept.usage))
            self.kept.usage.setdefault(key, UsageRow(row.owner_id, self.now(), one))

    def booked(self: Unbooked, spent: Booking) -> None:
        """Nothing is forgotten."""

    return [(MemoryDatabase, "book", book), (Unbooked, "booked", booked)]


BUGS: dict[str, Callable[[], list[Patch]]] = {
    bug.__name__.replace("_", "-"): bug
    for bug in (
        no_epoch_check,
        hint_as_data,
        unbounded_lease_trust,
        cursor_by_message_id,
        dial_without_worker_id,
        unnoticed_gap,
        no_stream_fence,
        unrecognised_commit,
        forgotten_idempotency,
        no_poll,
        commits_out_of_turn,
        impatient_messages,
        outdated_frames,
        lost_partials,
        ignored_interrupts,
        swallowed_moves,
        message_without_an_epoch,
        forgotten_strays,
        wall_clock_leases,
        one_connection_is_a_life,
        deaths_of_the_old_primary,
        *WITH_TOOLS,
        *WITH_QUESTIONS,
        *WITH_SUMMARIES,
        *WITH_AGENTS,
        forgotten_versions_again,
        forgotten_money,
        money_twice,
        *HARMFUL,
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """One of ``BUGS``, for the length of the block."""
    with ExitStack() as stack:
        for place, attribute, value in BUGS[name]():
            stack.enter_context(patch.object(place, attribute, value))
        yield
