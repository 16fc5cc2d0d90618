"""What one chat, user, row, stream entry, model server or connection does to the cluster: others are not to notice it.

Each harm is a task, which has chats of its own for victims; when it ends, all is mended. Each victim has a
user, and a reader that the checker does not listen to: only what becomes of the world's other chats is judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import trio
from checker import Checker, Kind

from chatcluster.chat import Send
from chatcluster.errors import CallerError
from chatcluster.memory import MemoryStore
from chatcluster.memory.tables import ReplicaRow
from chatcluster.parts import Frame, FrameKind, NewMessage, Position, Role, TextPart, pack_frame
from chatcluster.ports import (
    REPLICAS_CHANNEL,
    RUNNABLE_CHANNEL,
    SESSION_LOCKS,
    NewChat,
    Replica,
    hint_channel,
    live_channel,
    worker_channel,
)
from simulation.client import OWNER
from simulation.harmed import LOOK_SECONDS, Misbehaviour
from simulation.process import ReplicaProcess

if TYPE_CHECKING:
    from simulation.run import World

GREEDY_OWNER = UUID(int=101)
GREEDY_CHATS = 16
BEGINS_SECONDS = 1.0
USE_SECONDS = 0.4
HELD_SECONDS = 3.0
QUEUE_MAX = 3
EPOCHS = (1, 2, 50, 1 << 40, (1 << 53) - 1, 1 << 53, (1 << 64) - 1)
SEQS = (0, 1, 3, 1 << 20, (1 << 64) - 1)
GARBAGE = (b"", b"\xff\xfe", b"{", b"null", b"[1]", b'{"chat_id": 7}', b"\0" * 40, b"9" * 400)


class Harms:
    """``run`` goes on until it is cancelled."""

    def __init__(self, world: World, draw: Random) -> None:
        self._world = world
        self._draw = draw
        self._harmed = world.witness.harmed
        self._store = MemoryStore(world.witness.database)
        self._nobody = Checker()
        self._nursery: trio.Nursery
        self._harmed.kill_reader = self._kill_reader
        self._deaths = 0
        """How many replicas loaded the deadly history, and died."""
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "unreadable": self._unreadable_history,
            "stalled": self._stalled_history,
            "deadly": self._deadly_history,
            "damaged": self._damaged_row,
            "locked": self._locked_row,
            "locked_of_the_dead": self._locked_row_of_the_dead,
            "foreign": self._foreign_entries,
            "refused": self._refused_stream,
            "model": self._bad_model,
            "greedy": self._greedy_user,
            "hints": self._garbage_hints,
            "session": self._broken_session,
            "unburiable": self._unburiable_worker,
        }

    async def run(self) -> None:
        async with trio.open_nursery() as self._nursery:
            for kind in self._world.plan.troubles.harms:
                self._nursery.start_soon(self._harm, kind)

    async def _harm(self, kind: str) -> None:
        await trio.sleep(self._draw.uniform(0, BEGINS_SECONDS))
        witness = self._world.witness
        witness.note("fault", "harm", kind)
        self._world.harms[f"harm: {kind}"] += 1  # none that the checker hears of: it explains nothing
        try:
            await self._kinds[kind]()
        finally:
            witness.note("mended", "harm", kind)

    # --- rows ---------------------------------------------------------------------------------

    async def _unreadable_history(self) -> None:
        await self._while_in(self._harmed.unreadable, self._draw.randint(1, 3))

    async def _stalled_history(self) -> None:
        await self._while_in(self._harmed.stalled, self._draw.randint(1, 3))

    async def _damaged_row(self) -> None:
        await self._while_in(self._harmed.damaged, 1)

    async def _deadly_history(self) -> None:
        (victim,) = await self._victims(1, used=False)
        with _member(self._harmed.deadly, [victim]):
            await trio.sleep_forever()

    async def _locked_row(self) -> None:
        """Somebody holds the row of a chat that waits for an owner."""
        (victim,) = await self._victims(1, used=False)
        while True:
            await trio.sleep(self._draw.uniform(0.2, 0.8))
            if await self._send(victim):
                with _member(self._world.witness.database.locked_rows, [victim]):
                    await trio.sleep(HELD_SECONDS)

    async def _locked_row_of_the_dead(self) -> None:
        """Somebody holds the row of a chat, and then its owner dies, which has other chats too."""
        (victim,) = await self._victims(1)
        with self._misbehaving({victim: Misbehaviour.KEEP_ALIVE}):
            while True:
                await trio.sleep(self._draw.uniform(0.2, 0.8))
                with _member(self._world.witness.database.locked_rows, [victim]):
                    await self._kill_at_work(self._owner_of(victim))
                    await trio.sleep(HELD_SECONDS)

    async def _unburiable_worker(self) -> None:
        """The row of a dead replica that nobody can bury."""
        database, worker_id = self._world.witness.database, UUID(int=self._draw.getrandbits(128), version=4)
        replica = Replica(worker_id, "stranger", "stranger", "0", 1)
        database.replicas[worker_id] = ReplicaRow(replica, database.clock() - 1000, "stranger")
        with _member(self._harmed.unburiable, [worker_id]):
            await trio.sleep_forever()

    # --- streams and hints --------------------------------------------------------------------

    async def _foreign_entries(self) -> None:
        """Somebody else writes into the stream of a chat."""
        (victim,) = await self._victims(1)
        broker = self._world.broker
        while True:
            await trio.sleep(self._draw.uniform(0.1, 1.0))
            kind = self._draw.choice(list(FrameKind))
            position = Position(self._draw.choice(EPOCHS), self._draw.choice(SEQS))
            entry = Frame(position, kind, self._draw.choice(GARBAGE))
            row = broker.create_stream(victim)
            if row.last < entry.position:
                row.frames.append(entry)
                row.last = entry.position
            broker.publish(live_channel(victim), self._draw.choice([pack_frame(entry), *GARBAGE]))

    async def _refused_stream(self) -> None:
        await self._while_in(self._harmed.refused, self._draw.randint(2, 3))

    async def _garbage_hints(self) -> None:
        broker = self._world.broker
        while True:
            await trio.sleep(self._draw.uniform(0.02, 0.3))
            chats = list(self._world.witness.database.chats)
            workers = [process.worker_id for process in self._world.processes.present]
            channels = [RUNNABLE_CHANNEL, REPLICAS_CHANNEL, *map(worker_channel, workers), *map(hint_channel, chats)]
            broker.publish(self._draw.choice(channels), self._draw.choice(GARBAGE))

    # --- users and their models ---------------------------------------------------------------

    async def _bad_model(self) -> None:
        victims = await self._victims(self._draw.randint(2, 5))
        with self._misbehaving({victim: self._draw.choice(list(Misbehaviour)) for victim in victims}):
            await trio.sleep_forever()

    @contextmanager
    def _misbehaving(self, models: dict[UUID, Misbehaviour]) -> Iterator[None]:
        self._harmed.models.update(models)
        try:
            yield
        finally:
            for victim in models:
                del self._harmed.models[victim]

    async def _greedy_user(self) -> None:
        await self._victims(GREEDY_CHATS, owner_id=GREEDY_OWNER)
        await trio.sleep_forever()

    # --- connections --------------------------------------------------------------------------

    async def _broken_session(self) -> None:
        """One of the connections that hold the locks of a replica breaks, again and again; it takes its lock anew."""
        database = self._world.witness.database
        while True:
            await trio.sleep(self._draw.uniform(0.2, 2.0))
            process = self._draw.choice(self._world.processes.present)
            lock = self._draw.randrange(SESSION_LOCKS)
            if all((process.worker_id, other) in database.locks for other in range(SESSION_LOCKS)):
                database.drop_session(process.worker_id, lock)

    # --- victims ------------------------------------------------------------------------------

    async def _while_in(self, harmed: set[UUID], count: int) -> None:
        with _member(harmed, await self._victims(count)):
            await trio.sleep_forever()

    async def _victims(self, count: int, *, owner_id: UUID = OWNER, used: bool = True) -> list[UUID]:
        """New chats of which somebody expects something."""
        victims = [UUID(int=self._draw.getrandbits(128), version=4) for _ in range(count)]
        self._harmed.chats.update(victims)
        for number, victim in enumerate(victims):
            message = NewMessage(Role.USER, (TextPart("a victim's"),))
            await self._store.create(NewChat(victim, owner_id, "a victim", None, (message,)))
            if number < QUEUE_MAX:
                name = f"reader of {str(victim)[:4]}"
                self._world.follow(name, victim, self._nobody, owner_id=owner_id, nursery=self._nursery)
        self._world.broker.publish(RUNNABLE_CHANNEL, b"")
        if used:
            self._nursery.start_soon(self._use, victims, owner_id)
        return victims

    async def _use(self, victims: list[UUID], owner_id: UUID) -> None:
        while True:
            await trio.sleep(self._draw.uniform(0, USE_SECONDS))
            for victim in victims:
                state = self._world.witness.database.chats[victim].state
                if len(state.queue) < QUEUE_MAX and not self._harmed.is_locked(victim):
                    await self._send(victim, owner_id)
            self._world.broker.publish(RUNNABLE_CHANNEL, b"")

    async def _send(self, victim: UUID, owner_id: UUID = OWNER) -> bool:
        """Whether the chat waits for an owner now."""
        with suppress(CallerError):
            await self._store.apply(victim, Send((TextPart("more of a victim's"),)), owner_id=owner_id)
        return self._world.witness.database.chats[victim].claimable_since is not None

    # --- deaths -------------------------------------------------------------------------------

    def _owner_of(self, chat_id: UUID) -> ReplicaProcess | None:
        worker_id = self._world.witness.database.chats[chat_id].state.worker_id
        return next((process for process in self._world.processes.present if process.worker_id == worker_id), None)

    async def _kill_at_work(self, process: ReplicaProcess | None) -> None:
        """When it works on somebody else's chat as well, if that comes soon."""
        if process is None:
            return
        rows, harmed = self._world.witness.database.chats.values(), self._harmed.chats
        with trio.move_on_after(BEGINS_SECONDS):
            at_work = False
            while not at_work:
                await trio.sleep(LOOK_SECONDS)
                at_work = any(row.state.worker_id == process.worker_id and row.id not in harmed for row in rows)
        if process.alive:
            self._world.processes.kill(process)

    def _kill_reader(self) -> None:
        calling = self._world.processes.calling()
        if calling is not None and calling.alive:
            self._world.processes.kill(calling)
            self._count_death()

    def _count_death(self) -> None:
        """A deadly history has one turn, which ends so many owners and no more."""
        self._deaths += 1
        if self._world.plan.troubles.quiet and self._deaths > self._world.plan.cluster.settings.replica.takeovers_max:
            (victim,) = self._harmed.deadly
            self._world.witness.violate(Kind.BYSTANDER, victim, f"it has ended {self._deaths} owners")


@contextmanager
def _member(harmed: set[UUID], ids: list[UUID]) -> Iterator[None]:
    """For the length of the block they are harmed."""
    harmed.update(ids)
    try:
        yield
    finally:
        harmed.difference_update(ids)
