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
from contextlib import ExitStack
from dataclasses import dataclass
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
from simulation.agenda import Agenda
from simulation.bystanders import Bystanders
from simulation.client import Client
from simulation.families import check_families, with_agents
from simulation.faults import Faults
from simulation.harms import Harms
from simulation.network import Weather
from simulation.people import People
from simulation.processes import Processes
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

    async def main(clock: VirtualClock) -> Verdict:
        world = World(plan_of(seed), clock)
        worlds.append(world)
        telemetry.subscribe(world.hear)
        try:
            with ExitStack() as stack:
                for name, bound in world.plan.cluster.bounds.items():
                    stack.enter_context(patch(name, bound))
                return await world.run()
        finally:
            telemetry.unsubscribe(world.hear)

    try:
        verdict = scheduler.run(seed, main)
    except Exception as error:  # noqa: BLE001 - it is a finding like any other
        verdict = worlds[0].broken(error)
    (world,) = worlds
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
        self.agenda = Agenda(self._time)
        self.processes = Processes(self, self.checker)
        self.weather = Weather()
        self.draw = Random(f"network {plan.seed}")
        self.provider = Provider(
            plan.temper,
            Random(f"provider {plan.seed}"),
            self.witness.harmed,
            caller=self.processes.calling_worker,
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
            worker=self.processes.calling_worker,
            kill_caller=self.processes.kill_calling,
        )
        self.readers: list[Reader] = []
        self.harms: Counter[str] = Counter()
        self._nursery: trio.Nursery

    @property
    def now(self) -> float:
        return self.clock.now

    def _time(self) -> float:
        return self.clock.now

    # --- phases -------------------------------------------------------------------------------

    async def run(self) -> Verdict:
        plan = self.plan
        clients = [Client(f"c{n}", self, Random(f"client {n} {plan.seed}")) for n in range(plan.use.clients)]
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self.agenda.run)
            self._nursery.start_soon(Vigil(self).run)
            self.processes.begin(self._nursery)
            chats = [await clients[n % len(clients)].create() for n in range(plan.use.chats)]
            for number in range(plan.readers.count):
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
            verdict = self._decide(chats)
            self.processes.bury()
            self._nursery.cancel_scope.cancel()
        return verdict

    async def _trouble(self, clients: list[Client], chats: list[UUID]) -> None:
        """The clients' time, with everything that the seed has in store."""
        plan = self.plan
        for name, value in plan.troubles.weather.items():
            setattr(self.weather, name, value)
        faults = Faults(self, Random(f"faults {plan.seed}"))
        began = self.now
        async with trio.open_nursery() as nursery:
            nursery.start_soon(faults.run)
            nursery.start_soon(self._join_late, chats)
            nursery.start_soon(Harms(self, Random(f"harms {plan.seed}")).run)
            if plan.troubles.quiet:
                nursery.start_soon(Bystanders(self, chats).run)
            with trio.move_on_after(CLIENT_SECONDS_MAX):
                async with trio.open_nursery() as using:
                    for client in clients:
                        using.start_soon(client.use, chats, plan.use.operations, plan.use.think_seconds)
                await trio.sleep(plan.troubles.linger_seconds)
            nursery.cancel_scope.cancel()
        if not self.weather.fair or self.weather.live_late_seconds or self.weather.live_lost:
            self.checker.faults.append(Fault(kind="redis weather", time=began, until=self.now))

    async def _join_late(self, chats: list[UUID]) -> None:
        draw = Random(f"late {self.plan.seed}")
        for number in range(self.plan.readers.late):
            await trio.sleep(draw.expovariate(1 / LATE_SECONDS))
            self._attach(f"late{number}", draw.choice(chats))

    def _heal(self) -> None:
        self.witness.note("healed")
        self.weather.clear()
        self.processes.restart_all_that_are_out()
        self.provider.temper = Temper(first_seconds=0.01, words_max=3)
        self.toolbox.calm = True

    async def _come_to_rest(self, client: Client, chats: list[UUID]) -> None:
        await trio.sleep(LOOK_SECONDS)  # what was on its way when everything was mended has arrived
        while not self.agenda.is_empty or self.weather.delayed_until > self.now:  # noqa: ASYNC110 - something is to arrive still
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

    def _decide(self, chats: list[UUID]) -> Verdict:
        self.witness.check_answers(self.provider.answers)
        self.witness.check_money(self.provider.answers)
        for reader in self.readers:
            reader.subscriber.counts.failures = self.witness.failures[reader.chat_id]
            if reader.archived != self.witness.database.chats[reader.chat_id].state.archived:
                detail = f"{reader.name} was told that archived is {reader.archived}"
                self.witness.violate(Kind.GAP, reader.chat_id, detail)
        for chat_id in with_agents(self.witness.database, chats):
            self.witness.calls.check(self.witness.database.chats[chat_id])
        for chat_id in chats:
            self.checker.conclude(self._final(chat_id))
        check_families(self.witness.database, self.witness.violate)
        return self.checker.verdict()

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

    # --- readers, and what they are told ------------------------------------------------------

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

    def _attempt_failed(self, worker_id: UUID) -> None:
        until = self.now + TOLD_SECONDS_MAX
        self.checker.faults.append(Fault(kind="provider", time=self.now, until=until, worker_id=str(worker_id)))

    def _violated(self, violation: Violation) -> None:
        promise = f"{PROMISES[violation.kind]} {violation.kind}"
        self.trace.note(self.now, "VIOLATION", promise, violation.chat, violation.reader, violation.detail)


def _at_rest(row: ChatRow) -> bool:
    return row.state.worker_id is None and row.state.status in (Status.WAITING, Status.ERROR)
