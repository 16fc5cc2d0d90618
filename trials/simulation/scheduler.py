"""trio made repeatable: one seed gives one order of steps, whatever the addresses and hashes of objects are.

trio is deterministic but for four things, and each is taken care of:

* the order of the tasks that are ready at once: sorted by their age, then shuffled by a seeded generator
  (trio has the switch for that, made for Hypothesis);
* scopes whose deadlines are equal: they expire in the order in which their deadlines were set;
* time: the clock is virtual, and jumps to the next deadline as soon as no task is ready;
* module-level randomness (jitter, worker IDs): seeded for the length of the run. Garbage is collected between
  runs only, so that no finalizer runs at a moment that depends on the memory.

A **process** is a set of tasks: all that descend from the one it was started with. It can be frozen (its
tasks get ready, but do not run, as under SIGSTOP), and its clock can go faster or slower than the others':
the times that its tasks read, and the deadlines that they set, are its own.
"""

from __future__ import annotations

import gc
import itertools
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from math import inf
from typing import TypeVar
from unittest.mock import patch
from uuid import UUID

import trio
import trio._core._run as trio_run
from trio._core._run import GLOBAL_RUN_CONTEXT, CancelReason
from trio.lowlevel import Task

CYCLES_AT_ONE_TIME_MAX = 20_000
LATENESS_SECONDS = 1e-9
"""A sleeper wakes a little after its time, as everywhere; never, for a rounding error, a little before."""

T = TypeVar("T")


class Stuck(Exception):
    """No task will ever be ready again, or one is always."""


_process: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """What the scheduler knows of a simulated process. ``speed``: seconds on its clock per second of the world."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self.frozen = False
        self.in_flight: set[Task] = set()
        """Tasks whose request is on its way to a server: that goes on, also while the process is frozen."""
        self._context = copy_context()
        self._context.run(_process.set, self)

    @property
    def context(self) -> Context:
        """Start a task in a copy of this context, and it belongs to the process."""
        return self._context.copy()

    def freeze(self) -> None:
        """No task of the process takes another step, beginning with the next round of the scheduler."""
        self.frozen = True
        _run_queue().freeze(self)

    def thaw(self) -> None:
        self.frozen = False
        _run_queue().thaw(self)

    def holds(self, task: Task) -> bool:
        return self.frozen and task.context.get(_process) is self and task not in self.in_flight


class RunQueue(deque[Task]):
    """trio's queue of ready tasks, without those of frozen processes."""

    def __init__(self, ready: Iterable[Task]) -> None:
        super().__init__(ready)
        self._held: dict[Process, list[Task]] = {}

    def append(self, task: Task) -> None:
        process = task.context.get(_process)
        if process is not None and process.holds(task):
            self._held[process].append(task)
        else:
            super().append(task)

    def freeze(self, process: Process) -> None:
        ready = [task for task in self if process.holds(task)]
        self._held.setdefault(process, []).extend(ready)
        for task in ready:
            self.remove(task)

    def thaw(self, process: Process) -> None:
        self.extend(self._held.pop(process, ()))

    def thaw_all(self) -> None:
        for process in list(self._held):
            process.thaw()


class VirtualClock(trio.abc.Clock):
    """Time stands still while any task is ready. A task reads the clock of its process."""

    def __init__(self) -> None:
        self.now = 0.0
        self.give_up: Callable[[], None] = lambda: None
        self.stuck = ""
        self._cycles_to_end = CYCLES_AT_ONE_TIME_MAX
        self.over = False
        """The program is done; trio shuts down, for which it waits on sockets of its own."""

    def start_clock(self) -> None:
        pass

    def fail(self, reason: str) -> None:
        """The run cannot go on: end it, also in frozen processes."""
        if not self.stuck:
            self.stuck = f"{reason} at {self.now:.6f} s"
            self.give_up()
            _run_queue().thaw_all()
        self._cycles_to_end -= 1
        if self._cycles_to_end == 0:
            raise Stuck(f"{self.stuck}, and it does not end")

    def current_time(self) -> float:
        process = current_process()
        return self.now if process is None else self.now * process.speed

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked only when nothing is ready, and nothing ever comes from outside: so it is the deadline's time now."""
        if deadline == inf:
            if not self.over:
                self.fail("nothing can happen any more")
            return inf if self.over else 0.0
        self.now = max(self.now, deadline + LATENESS_SECONDS)
        return 0.0


class Deadlines(trio_run.Deadlines):
    """Scopes by their deadline in the world's time, then by the order in which it was set."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock
        self._queue: list[tuple[float, int, float, trio.CancelScope]] = []
        self._serial = itertools.count()
        self._cycles = 0
        self._time = -1.0

    def add(self, deadline: float, cancel_scope: trio.CancelScope) -> None:
        process = current_process()
        due = deadline if process is None else deadline / process.speed
        heappush(self._queue, (due, next(self._serial), deadline, cancel_scope))

    def remove(self, deadline: float, cancel_scope: trio.CancelScope) -> None:
        """It is passed over when its time has come."""

    def next_deadline(self) -> float:
        while self._queue:
            due, _, deadline, scope = self._queue[0]
            if deadline == scope._registered_deadline:
                return due
            heappop(self._queue)
        return inf

    def expire(self, now: float) -> bool:
        self._count_cycle(now)
        expired = False
        while self._queue and self._queue[0][0] <= now:
            _, _, deadline, scope = heappop(self._queue)
            if deadline == scope._registered_deadline:
                expired = True
                scope._cancel(CancelReason(source="deadline"))
        return expired

    def _count_cycle(self, now: float) -> None:
        """A program that is busy for ever while time stands still is stuck."""
        self._cycles = self._cycles + 1 if now == self._time else 0
        self._time = now
        if self._cycles > CYCLES_AT_ONE_TIME_MAX:
            self._clock.fail("time stands still: some task never waits")


def run(seed: int, main: Callable[[VirtualClock], Awaitable[T]]) -> T:
    """Run ``main(clock)`` in the world of this seed. Raises ``Stuck``."""
    clock = VirtualClock()

    async def with_our_parts() -> T:
        runner = GLOBAL_RUN_CONTEXT.runner
        runner.runq = RunQueue(runner.runq)
        runner.deadlines = Deadlines(clock)
        try:
            with trio.CancelScope() as whole:
                clock.give_up = whole.cancel
                return await main(clock)
            raise Stuck(clock.stuck)
        finally:
            clock.over = True

    with _repeatable(seed):
        return trio.run(with_our_parts, clock=clock)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    identities = random.Random(f"identities {seed}")
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate(), random.getstate()
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    trio_run._r.seed(f"order {seed}")
    random.seed(f"jitter {seed}")
    collecting = gc.isenabled()
    gc.disable()
    try:
        with patch("chatcluster.replica.uuid4", lambda: UUID(int=identities.getrandbits(128), version=4)):
            yield
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]  # type: ignore[misc]
        trio_run._r.setstate(before[1])
        random.setstate(before[2])
        if collecting:
            gc.enable()


def current_process() -> Process | None:
    task: Task | None = getattr(GLOBAL_RUN_CONTEXT, "task", None)
    return None if task is None else task.context.get(_process)


def _run_queue() -> RunQueue:
    queue = GLOBAL_RUN_CONTEXT.runner.runq
    assert isinstance(queue, RunQueue)
    return queue
