"""One seed, from the birth of its world to the verdict.

1. The replicas start, the chats are created, readers attach.
2. Clients do what they do, while faults happen.
3. Everything is mended: no fault is left, the weather is fair (but hints may be lost to the end), the provider is
   well, dead replicas are back. From here on the cluster has ``REST_SECONDS_MAX`` to bring every chat to rest. Then
   each chat that is archived or has something left in its queue is used once more, and has to come to rest again;
   some are archived in the end.
4. Readers have ``TOLD_SECONDS_MAX`` to be told everything.
5. The checker decides.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from unittest.mock import patch
from uuid import UUID

import msgspec
import trio
from checker import PROMISES, Checker, Fault, FinalChat, Kind, Verdict, Violation
from checker.history import message_of
from checker.loss import Loss

from chatcluster import telemetry
from chatcluster.catalogue import CRASHES, LEVELS, Level
from chatcluster.chat import Archive, Status, Unarchive, continued
from chatcluster.memory import MemoryBroker
from chatcluster.memory.tables import ChatRow
from simulation import scheduler
from simulation.bystanders import Bystanders
from simulation.client import Client
from simulation.families import check_families, with_agents
from simulation.faults import Faults
from simulation.harms import Harms
from simulation.network import Weather
from simulation.people import People
from simulation.process import ReplicaProcess
from simulation.provider import Provider
from simulation.reader import Reader
from simulation.scheduler import VirtualClock
from simulation.seeding import Plan, Temper, plan_of
from simulation.standby import Standby
from simulation.tools import Toolbox
from simulation.trace import Trace
from simulation.vigil import Vigil
from simulation.witness import Witness

REST_SECONDS_MAX = 40.0
TOLD_SECONDS_MAX = 3.0
CLIENT_SECONDS_MAX = 12.0
LOOK_SECONDS = 0.25
LATE_SECONDS = 2.0
RESTART_SECONDS = 0.3

TOLD_FIELDS = ("worker_id", "chat_id", "epoch", "attempt", "reason", "reasons", "error")


@dataclass(frozen=True)
class Run:
    """What became of a seed."""

    plan: Plan
    verdict: Verdict
    trace: Trace
    virtual_seconds: float
    real_seconds: float
    faults: Counter[str]
    answers: int

    @property
    def kept(self) -> bool:
        return self.verdict.kept


def run_seed(seed: int) -> Run:
    """Run the world of ``seed``: the same every time."""
    started = time.perf_counter()
    worlds: list[World] = []

    async def main(clock: VirtualClock) -> None:
        world = World(plan_of(seed), clock)
        worlds.append(world)
        telemetry.subscribe(world.hear)
        try:
            with ExitStack() as stack:
                for name, bound in world.plan.bounds.items():
                    stack.enter_context(patch(name, bound))
                await world.run()
        finally:
            telemetry.unsubscribe(world.hear)

    failure: Exception | None = None
    try:
        scheduler.run(seed, main)
    except Exception as error:  # noqa: BLE001 - it is a finding like any other
        failure = error
    (world,) = worlds
    verdict = world.verdict if failure is None else world.broken(failure)
    assert verdict is not None
    return Run(
        plan=world.plan,
        verdict=verdict,
        trace=world.trace,
        virtual_seconds=world.now,
        real_seconds=time.perf_counter() - started,
        faults=Counter(fault.kind for fault in world.checker.faults) + world.harms,
        answers=len(world.provider.answers),
    )


class World:
    """Everything there is in one run."""

    def __init__(self, plan: Plan, clock: VirtualClock) -> None:
        self.plan = plan
        self.clock = clock
        self.trace = Trace()
        self.checker = Checker(self._violated, stop_seconds_max=plan.stop_seconds_max)
        self.witness = Witness(self._time, self.trace, report=self.checker.report, attempt_failed=self._attempt_failed)
        self.broker = MemoryBroker(self._time)
        self.weather = Weather()
        self.draw = Random(f"network {plan.seed}")
        self.provider = Provider(
            plan.temper,
            Random(f"provider {plan.seed}"),
            self.witness.harmed,
            caller=self._calling_worker,
            on_word=self.witness.worked,
            on_prompt=self.witness.asked,
        )
        self.toolbox = Toolbox(
            Random(f"tools of {plan.seed}"),
            self.witness.calls,
            offer=plan.tools,
            tracked=plan.temper.tracked > 0,
            asks=plan.temper.questions > 0,
            process=scheduler.current_process,
            worker=self._calling_worker,
            kill_caller=self._kill_caller,
        )
        self.processes: list[ReplicaProcess] = []
        self.buried: list[ReplicaProcess] = []
        self.readers: list[Reader] = []
        self.harms: Counter[str] = Counter()
        self.verdict: Verdict | None = None
        self._nursery: trio.Nursery
        self._late: list[tuple[float, int, Callable[[], None]]] = []
        self._late_serial = count()
        self._late_changed = trio.Event()
        self._process_changed = trio.Event()

    @property
    def now(self) -> float:
        return self.clock.now

    def _time(self) -> float:
        return self.clock.now

    # --- phases -------------------------------------------------------------------------------

    async def run(self) -> None:
        plan = self.plan
        clients = [Client(f"c{n}", self, Random(f"client {n} {plan.seed}")) for n in range(plan.clients)]
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._deliver_late)
            self._nursery.start_soon(Vigil(self).run)
            for number, speed in enumerate(plan.speeds):
                self._start(f"r{number}", speed, number=1)
            chats = [await clients[n % len(clients)].create() for n in range(plan.chats)]
            for number in range(plan.readers):
                self._attach(f"reader{number}", chats[number % len(chats)])
            if plan.tools:
                draw = Random(f"people {plan.seed}")
                self._nursery.start_soon(People(self, Client("people", self, draw), draw).run, chats)
            await self._trouble(clients, chats)
            self._heal()
            await self._come_to_rest(clients[0], chats)
            for reader in self.readers:
                reader.settle()
            await trio.sleep(TOLD_SECONDS_MAX)
            self._decide(chats)
            for process in (*self.buried, *self.processes):
                process.bury()
            self._nursery.cancel_scope.cancel()

    async def _trouble(self, clients: list[Client], chats: list[UUID]) -> None:
        """The clients' time, with everything that the seed has in store."""
        plan = self.plan
        for name, value in plan.weather.items():
            setattr(self.weather, name, value)
        faults = Faults(self, Random(f"faults {plan.seed}"))
        began = self.now
        async with trio.open_nursery() as nursery:
            nursery.start_soon(faults.run)
            nursery.start_soon(self._join_late, chats)
            nursery.start_soon(Harms(self, Random(f"harms {plan.seed}")).run)
            if plan.quiet:
                nursery.start_soon(Bystanders(self, chats).run)
            with trio.move_on_after(CLIENT_SECONDS_MAX):
                async with trio.open_nursery() as using:
                    for client in clients:
                        using.start_soon(client.use, chats, plan.operations, plan.think_seconds)
                await trio.sleep(plan.linger_seconds)
            nursery.cancel_scope.cancel()
        if not self.weather.fair or self.weather.live_late_seconds or self.weather.live_lost:
            self.checker.faults.append(Fault(kind="redis weather", time=began, until=self.now))

    async def _join_late(self, chats: list[UUID]) -> None:
        draw = Random(f"late {self.plan.seed}")
        for number in range(self.plan.late_readers):
            await trio.sleep(draw.expovariate(1 / LATE_SECONDS))
            self._attach(f"late{number}", draw.choice(chats))

    def _heal(self) -> None:
        self.witness.note("healed")
        self.weather.clear()
        for process in list(self.processes):
            if not process.accepting:
                self.restart(process)
        self.provider.temper = Temper(first_seconds=0.01, words_max=3)
        self.toolbox.calm = True

    async def _come_to_rest(self, client: Client, chats: list[UUID]) -> None:
        await trio.sleep(LOOK_SECONDS)  # what was on its way when everything was mended has arrived
        while self._late or self.weather.delayed_until > self.now:  # noqa: ASYNC110 - something is to arrive still
            await trio.sleep(LOOK_SECONDS)
        await self._until_rest(chats)
        for chat_id in chats:
            row = self.witness.database.chats[chat_id]
            if row.state.archived:
                await client.apply(chat_id, Unarchive())
            if row.state.queue or row.state.status is Status.ERROR:
                await client.send(chat_id)
        await self._until_rest(chats)
        for chat_id in chats:
            if self.draw.random() < 0.5:
                await client.apply(chat_id, Archive())

    async def _until_rest(self, chats: list[UUID]) -> None:
        database = self.witness.database
        with trio.move_on_after(REST_SECONDS_MAX):
            while not all(_at_rest(database.chats[chat_id]) for chat_id in with_agents(database, chats)):  # noqa: ASYNC110 - the clock jumps, and every look is at a state
                await trio.sleep(LOOK_SECONDS)

    def _decide(self, chats: list[UUID]) -> None:
        self.witness.check_answers(self.provider.answers)
        self.witness.check_money(self.provider.answers)
        for reader in self.readers:
            reader.subscriber.failures = self.witness.failures[reader.chat_id]
            if reader.archived != self.witness.database.chats[reader.chat_id].state.archived:
                detail = f"{reader.name} was told that archived is {reader.archived}"
                self.witness.violate(Kind.GAP, reader.chat_id, detail)
        for chat_id in with_agents(self.witness.database, chats):
            self.witness.calls.check(self.witness.database.chats[chat_id])
        for chat_id in chats:
            self.checker.conclude(self._final(chat_id))
        check_families(self.witness.database, self.witness.violate)
        self.verdict = self.checker.verdict()

    def broken(self, failure: Exception) -> Verdict:
        """The verdict over a run that came to no end."""
        where = "".join(traceback.format_exception(failure))
        self.checker.report(Violation(Kind.CRASH, "", f"the run broke: {failure!r}\n{where}", self.now))
        return self.checker.verdict()

    def _final(self, chat_id: UUID) -> FinalChat:
        database = self.witness.database
        row = database.chats[chat_id]
        chat = database.view(row)
        return FinalChat(
            chat=str(chat_id),
            status=chat.shown_status,
            snapshot_version=chat.snapshot_version,
            archived=row.state.archived,
            worker_id=None if chat.worker_id is None else str(chat.worker_id),
            queue=tuple(item.id for item in row.queue),
            messages=tuple(message_of(msgspec.to_builtins(message)) for message in row.messages),
        )

    # --- who is there -------------------------------------------------------------------------

    async def accepting_process(self, draw: Random) -> ReplicaProcess:
        """One that a balancer would choose, as soon as there is one."""
        while True:
            accepting = [process for process in self.processes if process.accepting]
            if accepting:
                return draw.choice(accepting)
            await self._process_changed.wait()

    def restart(self, process: ReplicaProcess, *, replaces: str = "") -> None:
        """Start a new process in the place of one that is dead, or on its way out."""
        if process in self.processes:
            self.processes.remove(process)
            self.buried.append(process)
            self._start(process.replica_name, process.scheduled.speed, number=process.number + 1, replaces=replaces)

    def _kill_caller(self) -> None:
        """The process that runs right now; its supervisor starts another one, which knows whom it replaces."""
        calling = scheduler.current_process()
        for process in self.processes:
            if process.scheduled is calling and process.alive:
                worker_id = str(process.worker_id)
                fault = Fault(kind="kill", time=self.now, until=self.now, worker_id=worker_id, replica=process.name)
                self.checker.faults.append(fault)
                process.kill()
                self.later(RESTART_SECONDS, partial(self.restart, process, replaces=worker_id))
                return

    def _start(self, name: str, speed: float, *, number: int, replaces: str = "") -> None:
        settings = replace(self.plan.settings, slots=self.plan.slots, replaces=replaces)
        process = ReplicaProcess(name, self, settings, speed=speed, number=number)
        self.witness.note("start", process.name)
        self.processes.append(process)
        process.start(self._nursery, self._process_ready)

    def _process_ready(self) -> None:
        self._process_changed.set()
        self._process_changed = trio.Event()

    def _attach(self, name: str, chat_id: UUID) -> None:
        subscriber = self.checker.subscriber(str(chat_id), name)
        reader = Reader(name, chat_id, self, Random(f"{name} {self.plan.seed}"), subscriber)
        self.readers.append(reader)
        self._nursery.start_soon(reader.run)

    def follow(self, name: str, chat_id: UUID, checker: Checker, *, owner_id: UUID, nursery: trio.Nursery) -> None:
        """Read a chat that is not judged."""
        draw, subscriber = Random(f"{name} {self.plan.seed}"), checker.subscriber(str(chat_id), name)
        nursery.start_soon(Reader(name, chat_id, self, draw, subscriber, owner_id).run)

    def lose(self, standby: Standby, parted_at: float, *, ids_again: bool) -> None:
        """A standby takes over that has nothing of what happened since they were parted."""
        lost = standby.promote(ids_again=ids_again)
        self.checker.losses.append(Loss(parted_at, self.now))
        for chat_id, row in lost.items():
            self.witness.forgotten(chat_id, row.state)
            above = continued(row.state, self.witness.database.timeline)
            self.checker.forgotten(str(chat_id), up_to_version=above.snapshot_version)

    # --- what is on its way -------------------------------------------------------------------

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do it then."""
        heappush(self._late, (self.now + seconds, next(self._late_serial), act))
        self._late_changed.set()

    async def _deliver_late(self) -> None:
        while True:
            self._late_changed = trio.Event()
            with trio.move_on_at(self._late[0][0] if self._late else float("inf")):
                await self._late_changed.wait()
            while self._late and self._late[0][0] <= self.now:
                heappop(self._late)[2]()

    # --- what is seen -------------------------------------------------------------------------

    def hear(self, name: str, fields: dict[str, object]) -> None:
        """What the loops report: a crash is a broken promise, whatever came of it."""
        if LEVELS.get(name) is not Level.DEBUG:
            self.trace.note(self.now, "told", name, *(fields[field] for field in TOLD_FIELDS if field in fields))
        if name == "lease.lost":
            self.witness.stopped(UUID(str(fields["worker_id"])))
        harmed = str(fields.get("chat_id")) in map(str, self.witness.harmed.chats)
        if name in CRASHES and not harmed:
            detail = f"{name}: {fields['error']}"
            self.checker.report(Violation(Kind.CRASH, str(fields.get("chat_id", "")), detail, self.now))

    def _calling_worker(self) -> UUID | None:
        calling = scheduler.current_process()
        return next((process.worker_id for process in self.processes if process.scheduled is calling), None)

    def _attempt_failed(self, worker_id: UUID) -> None:
        until = self.now + TOLD_SECONDS_MAX
        self.checker.faults.append(Fault(kind="provider", time=self.now, until=until, worker_id=str(worker_id)))

    def _violated(self, violation: Violation) -> None:
        promise = f"{PROMISES[violation.kind]} {violation.kind}"
        self.trace.note(self.now, "VIOLATION", promise, violation.chat, violation.reader, violation.detail)


def _at_rest(row: ChatRow) -> bool:
    return row.state.worker_id is None and row.state.status in (Status.WAITING, Status.ERROR)
