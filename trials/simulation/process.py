"""One replica process of the simulation: the real loops on memory ports, and what a client can do through it.

It is born by ``start``, and ends by ``kill`` (from one step to the next, without a word) or ``drain``. Frozen, it
takes no step at all, while its sockets stay open. Requests and streams are tasks of the process, as they
are in its HTTP server (``http_server.py``): its death breaks their connections, its freeze leaves them hanging.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

import trio

from chatcluster.audience import Audience
from chatcluster.config import Settings
from chatcluster.memory import MemoryBroker
from chatcluster.notices import Notices
from chatcluster.parts import Cursor
from chatcluster.ports import Model, Outside, Toolbox
from chatcluster.publisher import Publisher
from chatcluster.replica import Replica
from chatcluster.subscribe import Feeds
from chatcluster.tool_results import READ_RESULT
from chatcluster.tools.agents import AgentTools
from chatcluster.tools.client_tools import ClientTools
from chatcluster.tools.composition import Composition
from chatcluster.tools.read_result import WithReadResult
from chatcluster.transitions import Transitions
from simulation.agenda import Agenda
from simulation.http_server import Connection, Disconnected, HttpServer
from simulation.network import Uplinks, Weather
from simulation.scheduler import Process
from simulation.seeding import Plan
from simulation.watched import WatchedRegistry, WatchedStore, WatchedStreams
from simulation.witness import Witness

FLUSH_SECONDS_MAX = 2.0
CUT_SECONDS = 0.1

T = TypeVar("T")


class Surroundings(Protocol):
    """What a process finds in the world that it is born into."""

    witness: Witness
    broker: MemoryBroker
    weather: Weather
    agenda: Agenda
    draw: Random
    plan: Plan

    @property
    def provider(self) -> Model: ...

    @property
    def toolbox(self) -> Toolbox: ...


class Loops(NamedTuple):
    """The product's loops of one replica."""

    replica: Replica
    transitions: Transitions
    publisher: Publisher
    feeds: Feeds


def _loops(
    name: str, world: Surroundings, settings: Settings, uplinks: Uplinks, on_incarnation: Callable[[UUID], None]
) -> Loops:
    """Put together as in a deployed replica, on ports that end in the world."""
    store = WatchedStore(world.witness, uplinks.store)
    streams = WatchedStreams(world.witness, world.broker, uplinks.streams, world.weather, world.draw)
    notices = Notices(uplinks.pubsub)
    transitions = Transitions(store, notices)
    publisher = Publisher(streams, coalesce_seconds=settings.streaming.coalesce_ms / 1000)
    feeds = Feeds(
        store=store, streams=streams, pubsub=uplinks.pubsub, settings=settings, audience=Audience(settings.streaming)
    )
    notices.set_readers(feeds.learn, feeds.hand_over)
    agents = AgentTools(store, transitions, settings)
    replica = Replica(
        name=name,
        address=name,
        settings=settings,
        outside=Outside(
            store=store,
            registry=WatchedRegistry(world.witness, uplinks.registry),
            streams=streams,
            pubsub=uplinks.pubsub,
            model=world.provider,
            toolbox=WithReadResult(Composition(agents, ClientTools(), world.toolbox, reserved={READ_RESULT}), store),
            windows=lambda _model, _failures: world.plan.window,
        ),
        publisher=publisher,
        notices=notices,
        on_incarnation=on_incarnation,
    )
    return Loops(replica, transitions, publisher, feeds)


class ReplicaProcess:
    """``number`` tells processes apart that had the same ``replica_name``, one after the other."""

    def __init__(
        self, name: str, world: Surroundings, settings: Settings, *, speed: float = 1.0, number: int = 1
    ) -> None:
        self.name = f"{name}{number}"
        self.replica_name = name
        self.number = number
        self.scheduled = Process(speed)
        self.worker_ids: list[UUID] = []
        self.alive = True
        self.exited = trio.Event()
        self.thawed_at = 0.0
        self.uplinks = Uplinks(
            self.scheduled,
            world.broker,
            world.weather,
            world.draw,
            world.agenda.later,
            statement_timeout_seconds=settings.servers.statement_timeout_seconds,
        )
        self._witness = world.witness
        self._loops = _loops(self.name, world, settings, self.uplinks, self._incarnated)
        self._server = HttpServer(self.scheduled, self._loops.feeds)
        self._listening = False
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<ReplicaProcess {self.name} {self.replica}>"

    @property
    def replica(self) -> Replica:
        return self._loops.replica

    @property
    def transitions(self) -> Transitions:
        return self._loops.transitions

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
        return self.alive and not self.frozen and self.uplinks.reaches_postgres

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
        _, _, publisher, feeds = self._loops
        async with trio.open_nursery() as self._nursery:
            self._server.begin(self._nursery)
            await self._nursery.start(feeds.run)
            self._listening = True
            on_listening()
            self._nursery.start_soon(publisher.run)
            await self.replica.run()
            await publisher.drained(FLUSH_SECONDS_MAX)
            await trio.sleep(CUT_SECONDS)
            feeds.cut_all()
            self._nursery.cancel_scope.cancel()
        self._gone("exit")
        self.uplinks.close()

    def drain(self) -> None:
        """SIGTERM."""
        self._witness.note("term", self.name)
        self.replica.drain()

    def kill(self, *, silently: bool = False) -> None:
        """SIGKILL: no further step; the kernel closes its connections. ``silently``: the machine is gone as well."""
        self._witness.note("kill", self.name)
        self.uplinks.kill()
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
        self._server.break_off(reason)

    def _incarnated(self, worker_id: UUID) -> None:
        self.worker_ids.append(worker_id)
        self._witness.worker(worker_id, self)

    # --- its HTTP server ----------------------------------------------------------------------

    async def request(self, handle: Callable[[], Awaitable[T]], *, patience_seconds: float) -> T:
        """Have the process carry out a request. Raises what the API answers, or ``Disconnected``."""
        if not self.alive:
            raise Disconnected("refused")
        return await self._server.request(handle, patience_seconds=patience_seconds)

    def connect(self, chat_id: UUID, cursor: Cursor, owner_id: UUID) -> Connection:
        """Open an event stream. It is refused at once by a process that takes in nobody."""
        return self._server.connect(chat_id, cursor, owner_id, accepting=self.accepting)
