"""One replica process of the simulation: the real loops on memory ports, and what a client can do through it.

It is born by ``start``, and ends by ``kill`` (from one step to the next, without a word) or ``drain``. Frozen, it
takes no step at all, while its sockets stay open. Requests and streams are tasks of the process, as they
are in its HTTP server: its death breaks their connections, its freeze leaves them hanging.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import trio

from chatcluster.audience import Audience
from chatcluster.config import Settings
from chatcluster.errors import CallerError, StoreUnavailable, StreamsUnavailable, UnavailableError, Unreadable
from chatcluster.memory import MemoryBroker
from chatcluster.notices import Notices
from chatcluster.parts import Cursor
from chatcluster.ports import Model, Outside, PubSub, Store, Toolbox
from chatcluster.publisher import Publisher
from chatcluster.replica import Replica
from chatcluster.subscribe import Feeds
from chatcluster.subscriber import Cut
from chatcluster.tool_results import READ_RESULT
from chatcluster.tools.agents import AgentTools
from chatcluster.tools.client_tools import ClientTools
from chatcluster.tools.composition import Composition
from chatcluster.tools.read_result import WithReadResult
from chatcluster.transitions import Transitions
from simulation.network import SimulatedPubSub, Weather, Wire
from simulation.scheduler import Process
from simulation.seeding import Plan
from simulation.watched import WatchedRegistry, WatchedStore, WatchedStreams
from simulation.witness import Witness

FLUSH_SECONDS_MAX = 2.0
CUT_SECONDS = 0.1
REDIS_PATIENCE_SECONDS = 2.0
WINDOW_BYTES = 8 << 10
"""What a connection takes in before its reader has read."""

T = TypeVar("T")


class Surroundings(Protocol):
    """What a process finds in the world that it is born into."""

    witness: Witness
    broker: MemoryBroker
    weather: Weather
    draw: Random
    plan: Plan

    @property
    def provider(self) -> Model: ...

    @property
    def toolbox(self) -> Toolbox: ...

    def later(self, seconds: float, act: Callable[[], None]) -> None: ...


class Disconnected(Exception):
    """The connection broke: whether the request was carried out is unknown."""


class Reply(Generic[T]):
    """What comes of a request: a value, an error of the API, or a broken connection."""

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._value: list[T] = []
        self._error: Exception = Disconnected()

    def answer(self, value: T) -> None:
        self._value.append(value)
        self._ended.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._ended.set()

    async def received(self) -> T:
        """Raises ``CallerError``, ``UnavailableError`` (503) or ``Disconnected``."""
        await self._ended.wait()
        if self._value:
            return self._value[0]
        raise self._error


class Connection:
    """An event stream between a process and a reader: bytes in order, until either side ends it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended: str | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._changed = trio.Event()

    async def send(self, data: bytes) -> None:
        """From the process: waits while the reader is behind."""
        while self._pending_bytes >= WINDOW_BYTES and self.ended is None:
            await self._changed.wait()
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._change()

    async def receive(self) -> bytes:
        """To the reader. Raises ``Disconnected`` once everything that was sent before the end is read."""
        while not self._pending and self.ended is None:
            await self._changed.wait()
        if not self._pending:
            raise Disconnected(self.ended)
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._change()
        return data

    def end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class ReplicaProcess:
    """``number`` tells processes apart that had the same ``name``, one after the other."""

    def __init__(
        self, name: str, world: Surroundings, settings: Settings, *, speed: float = 1.0, number: int = 1
    ) -> None:
        self.name = f"{name}{number}"
        self.replica_name = name
        self.number = number
        self.scheduled = Process(speed)
        self.worker_ids: list[UUID] = []
        self.alive = True
        self._listening = False
        self.exited = trio.Event()
        self.thawed_at = 0.0
        self._witness = world.witness
        self._settings = settings

        def wire(failure: type[UnavailableError], patience_seconds: float) -> Wire:
            return Wire(
                self.scheduled,
                world.weather,
                world.draw,
                world.later,
                failure=failure,
                patience_seconds=patience_seconds,
            )

        self._postgres = (
            wire(StoreUnavailable, settings.statement_timeout_seconds),
            wire(StoreUnavailable, settings.statement_timeout_seconds),
        )
        self._redis = wire(StreamsUnavailable, REDIS_PATIENCE_SECONDS)
        self._redis_cuts = 0
        self._pubsub = SimulatedPubSub(world.broker, world.weather, world.draw, world.later)
        self.store: Store = WatchedStore(world.witness, self._postgres[0])
        registry = WatchedRegistry(world.witness, self._postgres[1])
        streams = WatchedStreams(world.witness, world.broker, self._redis, world.weather, world.draw)
        pubsub: PubSub = self._pubsub
        self.notices = Notices(pubsub)
        self.transitions = Transitions(self.store, self.notices)
        agents = AgentTools(self.store, self.transitions, settings)
        self._publisher = Publisher(streams, coalesce_seconds=settings.coalesce_ms / 1000)
        self.feeds = Feeds(
            store=self.store, streams=streams, pubsub=pubsub, settings=settings, audience=Audience(settings)
        )
        self.notices.set_readers(self.feeds.learn, self.feeds.hand_over)
        self.replica = Replica(
            name=self.name,
            address=self.name,
            settings=settings,
            outside=Outside(
                store=self.store,
                registry=registry,
                streams=streams,
                pubsub=pubsub,
                model=world.provider,
                toolbox=WithReadResult(
                    Composition(agents, ClientTools(), world.toolbox, reserved={READ_RESULT}), self.store
                ),
                windows=lambda _model, _failures: world.plan.window,
            ),
            publisher=self._publisher,
            notices=self.notices,
            on_incarnation=self._incarnated,
        )
        self._replies: set[Reply[Any]] = set()
        self._connections: dict[Connection, None] = {}
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<ReplicaProcess {self.name} {self.replica}>"

    @property
    def worker_id(self) -> UUID:
        return self.replica.worker_id

    @property
    def accepting(self) -> bool:
        """Whether a balancer sends new connections here: it does not know of freezes."""
        return self.alive and self._listening and not self.replica.draining

    @property
    def frozen(self) -> bool:
        return self.scheduled.frozen

    @property
    def in_touch(self) -> bool:
        """Whether it lives, takes steps, and reaches Postgres."""
        return self.alive and not self.frozen and not any(wire.is_cut for wire in self._postgres)

    @property
    def fit(self) -> bool:
        """Whether it could take on a chat."""
        member = self.worker_id in self._witness.database.replicas
        return self.in_touch and self.accepting and member and self.replica.free_slots > 0

    def runs(self, chat_id: UUID) -> bool:
        return self.replica.tenures.runner(chat_id) is not None

    def works_on(self, chat_id: UUID) -> bool:
        """Whether it has a runner for the chat that means to go on. Frozen, or just awake, it means nothing."""
        awake = self.alive and not self.frozen and self.thawed_at < self._witness.database.clock()
        runner = self.replica.tenures.runner(chat_id)
        return awake and runner is not None and not runner._over

    # --- life and death -----------------------------------------------------------------------

    def start(self, nursery: trio.Nursery, on_listening: Callable[[], None]) -> None:
        self.scheduled.context.run(nursery.start_soon, self._run, on_listening)

    async def _run(self, on_listening: Callable[[], None]) -> None:
        async with trio.open_nursery() as self._nursery:
            await self._nursery.start(self.feeds.run)
            self._listening = True
            on_listening()
            self._nursery.start_soon(self._publisher.run)
            await self.replica.run()
            await self._publisher.drained(FLUSH_SECONDS_MAX)
            await trio.sleep(CUT_SECONDS)
            self.feeds.cut_all()
            self._nursery.cancel_scope.cancel()
        self._gone("exit")
        self._pubsub.disconnect()

    def drain(self) -> None:
        """SIGTERM."""
        self._witness.note("term", self.name)
        self.replica.drain()

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL: no further step; the kernel closes its connections. ``silently``: the machine is gone as well."""
        self._witness.note("kill", self.name)
        for wire in (*self._postgres, self._redis):
            wire.dead = True
        self._pubsub.disconnect()
        self.scheduled.freeze()
        self._witness.calls.killed(self.scheduled)
        if not silently:
            self._witness.database.drop_sessions(self.worker_id)
        self._gone("kill")

    def freeze(self) -> None:
        self._witness.note("freeze", self.name)
        self.scheduled.freeze()

    def thaw(self) -> None:
        if self.alive:
            self._witness.note("thaw", self.name)
            self.thawed_at = self._witness.database.clock()
            self.scheduled.thaw()

    def bury(self) -> None:
        """The end of the world: let the tasks of a killed process unwind, with all its wires dead."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()
        self.scheduled.thaw()

    def _gone(self, reason: str) -> None:
        self.alive = False
        self.exited.set()
        for reply in self._replies:
            reply.fail(Disconnected(reason))
        for connection in self._connections:
            connection.end(reason)

    def _incarnated(self, worker_id: UUID) -> None:
        self.worker_ids.append(worker_id)
        self._witness.worker(worker_id, self)

    # --- its network --------------------------------------------------------------------------

    def cut_postgres(self, *, swallows: bool) -> None:
        for wire in self._postgres:
            wire.cut(swallows=swallows)

    def mend_postgres(self) -> None:
        for wire in self._postgres:
            wire.mend()

    def cut_redis(self, *, swallows: bool) -> None:
        self._redis_cuts += 1
        self._redis.cut(swallows=swallows)
        self._pubsub.disconnect()

    def mend_redis(self) -> None:
        self._redis_cuts -= 1
        self._redis.mend()
        if self._redis_cuts == 0 and self.alive:
            self._pubsub.connect()

    # --- its HTTP server ----------------------------------------------------------------------

    async def request(self, handle: Callable[[], Awaitable[T]], *, patience_seconds: float) -> T:
        """Have the process carry out a request. Raises what the API answers, or ``Disconnected``."""
        if not self.alive or self._nursery is None:
            raise Disconnected("refused")
        reply: Reply[T] = Reply()
        self._replies.add(reply)
        try:
            self.scheduled.context.run(self._nursery.start_soon, _carry_out, handle, reply)
            with trio.move_on_after(patience_seconds):
                return await reply.received()
            raise Disconnected("no answer")
        finally:
            self._replies.discard(reply)

    def connect(self, chat_id: UUID, cursor: Cursor, owner_id: UUID) -> Connection:
        """Open an event stream."""
        connection = Connection()
        if not self.accepting or self._nursery is None:
            connection.end("refused")
            return connection
        self._connections[connection] = None
        self.scheduled.context.run(self._nursery.start_soon, self._stream, connection, chat_id, cursor, owner_id)
        return connection

    async def _stream(self, connection: Connection, chat_id: UUID, cursor: Cursor, owner_id: UUID) -> None:
        reason = "disconnected"
        try:
            with connection.scope:
                await trio.lowlevel.checkpoint()  # the request's head is read
                async with self.feeds.subscribe(chat_id, cursor, owner_id=owner_id) as subscriber:
                    while connection.ended is None:
                        await connection.send(await subscriber.receive())
        except Cut as cut:
            reason = f"cut: {cut}"
        except (CallerError, UnavailableError, Unreadable) as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._connections.pop(connection, None)
            connection.end(reason)


async def _carry_out(handle: Callable[[], Awaitable[T]], reply: Reply[T]) -> None:
    try:
        reply.answer(await handle())
    except (CallerError, UnavailableError) as error:
        reply.fail(error)
