"""What is done to the cluster, and when it is over. Each fault is a task: when it ends, however it ends, all is mended.

The checker is told of each, because some explain what would be wrong without them: parts that a dead process
had not published yet, or that Redis lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import trio
from checker import Fault

from simulation.clocks import step_clock
from simulation.process import ReplicaProcess
from simulation.standby import Standby

if TYPE_CHECKING:
    from simulation.run import World

LOST_FRAMES_MAX = 20
RESTART_SECONDS = 0.5
LAGS_SECONDS = (0.02, 0.3, 1.0)
"""How far behind a standby is that loses something, on average."""


class Faults:
    """``run`` goes on until it is cancelled."""

    def __init__(self, world: World, draw: Random) -> None:
        self._world = world
        self._draw = draw
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self._kill,
            "freeze": self._freeze,
            "term": self._term,
            "cut_postgres": self._cut_postgres,
            "cut_redis": self._cut_redis,
            "cut_both": self._cut_both,
            "postgres_restart": self._restart_postgres,
            "postgres_session": self._drop_session,
            "redis_restart": self._restart_redis,
            "redis_flush": self._flush_redis,
            "clock_step": self._step_clock,
            "fail_over": self._fail_over,
            "fail_over_losing": self._fail_over_losing,
        }

    async def run(self) -> None:
        frequencies = self._world.plan.troubles.faults
        if not frequencies:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._draw.expovariate(sum(frequencies.values())))
                (kind,) = self._draw.choices(list(frequencies), list(frequencies.values()))
                nursery.start_soon(self._kinds[kind])

    # --- processes ----------------------------------------------------------------------------

    async def _kill(self) -> None:
        process = self._victim()
        if process is None:
            return
        worker_id = process.worker_id
        with self._recorded("kill", process):
            process.kill(silently=self._draw.random() < 0.2)
        await trio.sleep(self._draw.expovariate(1 / RESTART_SECONDS))
        told = self._draw.random() < 0.3
        self._world.processes.restart(process, replaces=str(worker_id) if told else "")

    async def _freeze(self) -> None:
        process = self._victim()
        if process is None or process.frozen:
            return
        with self._recorded("stop", process):
            process.freeze()
            try:
                await trio.sleep(self._seconds())
            finally:
                process.thaw()

    async def _term(self) -> None:
        process = self._victim()
        if process is None or process.replica.draining:
            return
        with self._recorded("term", process):
            process.drain()
            await process.exited.wait()
        await trio.sleep(self._draw.expovariate(1 / RESTART_SECONDS))
        self._world.processes.restart(process)

    # --- the network of one process -----------------------------------------------------------

    async def _cut_postgres(self) -> None:
        process = self._victim()
        if process is not None:
            with self._without_postgres(process):
                await self._while_sessions_break(process)

    async def _cut_redis(self) -> None:
        process = self._victim()
        if process is not None:
            with self._without_redis(process):
                await trio.sleep(self._seconds())

    async def _cut_both(self) -> None:
        process = self._victim()
        if process is not None:
            with self._without_postgres(process), self._without_redis(process):
                await self._while_sessions_break(process)

    async def _while_sessions_break(self, process: ReplicaProcess) -> None:
        """In the middle of it the server may find out that the process's session is gone."""
        seconds = self._seconds()
        await trio.sleep(seconds / 2)
        if self._draw.random() < 0.3:
            self._world.witness.database.drop_sessions(process.worker_id)
            self._world.witness.session_broke(process.worker_id)
        await trio.sleep(seconds / 2)

    @contextmanager
    def _without_postgres(self, process: ReplicaProcess) -> Iterator[None]:
        with self._recorded("postgres cut", process):
            process.uplinks.cut_postgres(swallows=self._draw.random() < 0.5)
            try:
                yield
            finally:
                process.uplinks.mend_postgres()

    @contextmanager
    def _without_redis(self, process: ReplicaProcess) -> Iterator[None]:
        with self._recorded("redis cut", process):
            process.uplinks.cut_redis(swallows=self._draw.random() < 0.5)
            try:
                yield
            finally:
                process.uplinks.mend_redis()

    # --- the servers --------------------------------------------------------------------------

    async def _drop_session(self) -> None:
        """A connection that holds a lock of a process breaks, or all do; the process lives on."""
        process = self._victim()
        if process is not None:
            with self._recorded("postgres session", process):
                for lock in self._draw.choice([(0,), (1,), (0, 1)]):
                    self._world.witness.database.drop_session(process.worker_id, lock)
                self._world.witness.session_broke(process.worker_id)

    async def _restart_postgres(self) -> None:
        with self._recorded("postgres restart"):
            processes = list(self._world.processes.present)
            for process in processes:
                process.uplinks.cut_postgres(swallows=False)
            self._world.witness.database.restart_sessions()
            try:
                await trio.sleep(self._draw.expovariate(1 / RESTART_SECONDS))
            finally:
                for process in processes:
                    process.uplinks.mend_postgres()

    async def _step_clock(self) -> None:
        """The database's clock is set; nobody else's is."""
        seconds = self._draw.choice((0.5, 3.0, 30.0, 3600.0)) * self._draw.choice((-1, 1))
        with self._recorded("clock step"):
            step_clock(self._world.witness.database, seconds)

    async def _fail_over(self) -> None:
        """Another server takes the writes, and has all that the old one had; that one still answers who only reads."""
        with self._recorded("postgres failover"):
            await self._take_over(self._world.witness.database.fail_over)

    async def _fail_over_losing(self) -> None:
        """Another server takes the writes, which had not heard from the old one for a moment."""
        standby, parted_at = Standby(self._world.witness.database), self._world.now
        await trio.sleep(self._draw.expovariate(1 / self._draw.choice(LAGS_SECONDS)))
        if not standby.is_of_the_primary:
            return
        ids_again = self._draw.random() < 0.5
        with self._recorded("postgres failover losing"):
            await self._take_over(lambda: self._world.lose(standby, parted_at, ids_again=ids_again))

    async def _take_over(self, promote: Callable[[], None]) -> None:
        processes = list(self._world.processes.present)
        for process in processes:
            process.uplinks.cut_postgres(swallows=False)
        promote()
        if self._draw.random() < 0.5:
            step_clock(self._world.witness.database, self._draw.uniform(-10.0, 10.0))
        try:
            await trio.sleep(self._draw.expovariate(1 / RESTART_SECONDS))
        finally:
            for process in processes:
                process.uplinks.mend_postgres()

    async def _restart_redis(self) -> None:
        with self._recorded("redis restart"):
            self._world.broker.disconnect()
            match self._draw.choice(["as it was", "empty", "set back"]):
                case "empty":
                    self._world.broker.flush()
                case "set back":
                    self._world.broker.lose_newest(self._draw.randrange(1, LOST_FRAMES_MAX))
            try:
                await trio.sleep(self._draw.expovariate(1 / RESTART_SECONDS))
            finally:
                self._world.broker.connect()

    async def _flush_redis(self) -> None:
        with self._recorded("redis flush"):
            self._world.broker.flush()

    # --- which, how long, and for the record ---------------------------------------------------

    def _victim(self) -> ReplicaProcess | None:
        """More often than not one that is at work."""
        alive = [process for process in self._world.processes.present if process.alive and process.worker_ids]
        at_work = [process for process in alive if process.replica.chats]
        if at_work and self._draw.random() < 0.7:
            return self._draw.choice(at_work)
        return self._draw.choice(alive) if alive else None

    def _seconds(self) -> float:
        """Short, or longer than a lease."""
        return self._draw.expovariate(1 / self._draw.choice((0.02, 0.5, 3.0, 6.0)))

    @contextmanager
    def _recorded(self, kind: str, process: ReplicaProcess | None = None) -> Iterator[None]:
        world, began = self._world, self._world.now
        name = process.name if process else ""
        worker_id = str(process.worker_id) if process else ""
        world.witness.note("fault", kind, name)
        try:
            yield
        finally:
            world.witness.note("mended", kind, name)
            world.checker.faults.append(
                Fault(kind=kind, time=began, until=world.now, worker_id=worker_id, replica=name)
            )
