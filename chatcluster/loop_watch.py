"""How long the steps of the event loop are, and how much memory the process has taken: for those who look for stalls.

A step is what a task does between two waits: nobody else is served meanwhile. A turn of the asyncio loop
(``asyncio_loop.py``) is a part of the step of the task that takes it, and so is a run of the garbage collector. What is
measured is the thread's CPU time, so a machine that is busy with other things raises no alarm.

A step above ``STEP_SECONDS_MAX`` is reported as ``loop.slow_step``, with the name of its task.
"""

from __future__ import annotations

import ctypes
import gc
import time
from contextlib import suppress
from pathlib import Path

import trio

from chatcluster import telemetry
from chatcluster.metrics import Metrics

STEP_SECONDS_MAX = 0.05
GC_YOUNG_OBJECTS = 5_000
GC_YOUNG_LOOKS = 5
"""A look at what survived so many others is a pause as well, so there must not be too much of that either."""
GC_SURVIVORS_LOOKS = 800
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of glibc's ``mallopt(3)``."""
LARGE_BLOCK_BYTES = 1 << 20
TRIM_BYTES = 4 << 20
"""Both well above what a token or a small page takes: a block from the system costs a page fault for each 4 KiB."""
ARENAS_MAX = 1
"""Threads share the room of what is free: they take turns with the interpreter anyway."""


class LoopWatch(trio.abc.Instrument):
    """Measures every step of the loop that it is added to (``trio.lowlevel.add_instrument``)."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0
        self._began = time.thread_time()

    def __repr__(self) -> str:
        return f"<LoopWatch longest={self.longest_seconds:.3f}>"

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's signature
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        seconds = time.thread_time() - self._began
        if seconds > self.longest_seconds:
            self.longest_seconds = seconds
        if seconds > STEP_SECONDS_MAX:
            telemetry.event("loop.slow_step", task=task.name, seconds=seconds)


def memory_bytes_max() -> int:
    """The most memory that this process has had, 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def watch_loop(metrics: Metrics) -> None:
    """Measure this thread's loop from now on, and show what was measured."""
    watch = LoopWatch()
    trio.lowlevel.add_instrument(watch)
    metrics.watch_loop(longest_seconds=lambda: watch.longest_seconds, memory_bytes_max=memory_bytes_max)


def spare_pauses() -> None:
    """Each look of the garbage collector is a pause in every stream: it looks at a little at a time, and at what lives
    for long seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, GC_YOUNG_LOOKS, GC_SURVIVORS_LOOKS)


def return_large_blocks() -> None:
    """What was large once, a page of messages or a request to a model, goes back to the system when it is not used any
    more. By itself glibc raises its idea of large with every such block, so these come to lie among small ones that
    live on, each thread keeps what it has freed for itself, and the process has all that room for good. Nothing happens
    with another C library."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in (
            (M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES),
            (M_TRIM_THRESHOLD, TRIM_BYTES),
            (M_ARENA_MAX, ARENAS_MAX),
        ):
            mallopt(option, value)
