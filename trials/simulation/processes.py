"""The replica processes of a world: those that are there, those that are no more, and who starts the next one.

Each has a name, which its successor takes over, and a number that tells the two apart.
"""

from __future__ import annotations

from functools import partial
from random import Random
from uuid import UUID

import trio
from checker import Checker, Fault

from simulation import scheduler
from simulation.process import ReplicaProcess, Surroundings

RESTART_SECONDS = 0.3
"""Until the supervisor has started another process in the place of one that was killed."""


class Processes:
    """``present`` take part; ``past`` are dead or on their way out, and have a successor."""

    def __init__(self, world: Surroundings, checker: Checker) -> None:
        self.present: list[ReplicaProcess] = []
        self.past: list[ReplicaProcess] = []
        self._world = world
        self._checker = checker
        self._nursery: trio.Nursery
        self._listening = trio.Event()

    def begin(self, nursery: trio.Nursery) -> None:
        """The first ones start, each with its clock's speed. ``nursery`` is where all processes run."""
        self._nursery = nursery
        for number, speed in enumerate(self._world.plan.cluster.speeds):
            self._start(f"r{number}", speed, number=1)

    async def accepting(self, draw: Random) -> ReplicaProcess:
        """One that a balancer would choose, as soon as there is one."""
        while True:
            accepting = [process for process in self.present if process.accepting]
            if accepting:
                return draw.choice(accepting)
            await self._listening.wait()

    def calling(self) -> ReplicaProcess | None:
        """The one whose task runs right now."""
        scheduled = scheduler.current_process()
        return next((process for process in self.present if process.scheduled is scheduled), None)

    def calling_worker(self) -> UUID | None:
        calling = self.calling()
        return None if calling is None else calling.worker_id

    def kill(self, process: ReplicaProcess) -> None:
        """Kill a process that lives; its supervisor starts another one, which knows whom it replaces."""
        now, worker_id = self._world.witness.database.clock(), str(process.worker_id)
        fault = Fault(kind="kill", time=now, until=now, worker_id=worker_id, replica=process.name)
        self._checker.faults.append(fault)
        process.kill()
        self._world.agenda.later(RESTART_SECONDS, partial(self.restart, process, replaces=worker_id))

    def kill_calling(self) -> None:
        calling = self.calling()
        if calling is not None and calling.alive:
            self.kill(calling)

    def restart(self, process: ReplicaProcess, *, replaces: str = "") -> None:
        """Start a new process in the place of one that is dead, or on its way out."""
        if process in self.present:
            self.present.remove(process)
            self.past.append(process)
            self._start(process.replica_name, process.scheduled.speed, number=process.number + 1, replaces=replaces)

    def restart_all_that_are_out(self) -> None:
        for process in list(self.present):
            if not process.accepting:
                self.restart(process)

    def bury(self) -> None:
        """The end of the world."""
        for process in (*self.past, *self.present):
            process.bury()

    def _start(self, name: str, speed: float, *, number: int, replaces: str = "") -> None:
        cluster = self._world.plan.cluster
        settings = cluster.settings.but(slots=cluster.slots, replaces=replaces)
        process = ReplicaProcess(name, self._world, settings, speed=speed, number=number)
        self._world.witness.note("start", process.name)
        self.present.append(process)
        process.start(self._nursery, self._listens)

    def _listens(self) -> None:
        self._listening.set()
        self._listening = trio.Event()
