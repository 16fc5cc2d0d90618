"""P10: steps of the event loop that are too long are seen, and who made them; time that others take is not counted."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
from chaos.vitals import Vitals

from chatcluster import telemetry
from chatcluster.loop_watch import STEP_SECONDS_MAX, LoopWatch, memory_bytes_max
from chatcluster.metrics import Metrics


async def hog() -> None:
    """More than a step may take, of the processor's time."""
    end = time.thread_time() + 2 * STEP_SECONDS_MAX
    while time.thread_time() < end:
        pass


async def idle() -> None:
    """As long, while another process has the processor."""
    other = f"import time\nwhile time.process_time() < {2 * STEP_SECONDS_MAX}: pass"
    subprocess.run([sys.executable, "-c", other], check=True)  # noqa: ASYNC221 - that is what is tried


@pytest.mark.parametrize(("task", "is_slow"), [(hog, True), (idle, False)])
async def test_p10_a_step_is_too_long_by_the_time_of_the_processor_and_its_task_is_named(
    task: object, is_slow: bool
) -> None:
    told: list[object] = []

    def hear(name: str, fields: dict[str, object]) -> None:
        if name == "loop.slow_step":
            told.append(fields["task"])

    watch = LoopWatch()
    trio.lowlevel.add_instrument(watch)
    telemetry.subscribe(hear)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(task)  # type: ignore[arg-type]
    finally:
        telemetry.unsubscribe(hear)
        trio.lowlevel.remove_instrument(watch)
    assert any("hog" in str(name) for name in told) == is_slow
    assert (watch.longest_seconds > STEP_SECONDS_MAX) == is_slow


async def test_what_is_measured_is_among_the_metrics_and_judged_by_the_chaos_run() -> None:
    metrics = Metrics()
    metrics.watch_loop(longest_seconds=lambda: 0.25, memory_bytes_max=lambda: 400 << 20)
    vitals = Vitals()
    assert vitals.violations == 0
    vitals.take(metrics.render().decode())
    assert (vitals.step_seconds_max, vitals.memory_bytes_max, vitals.violations) == (0.25, 400 << 20, 2)


def test_the_most_memory_that_the_process_has_had_is_known_where_the_system_tells() -> None:
    assert (memory_bytes_max() > 1 << 20) == Path("/proc/self/status").exists()


LARGE_AMONG_SMALL = """
from pathlib import Path
from chatcluster.loop_watch import return_large_blocks
return_large_blocks()
kept = []
for _ in range(20):
    large = [bytes(1_100_000 + 1_000 * number) for number in range(40)]
    kept.append([bytes(5_000) for _ in range(100)])
    del large
pages = int(Path("/proc/self/statm").read_text().split()[1])
print(pages)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_p10_large_blocks_that_lay_among_small_ones_are_given_back() -> None:
    def resident_bytes(program: str) -> int:
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        return int(done.stdout) * resource.getpagesize()

    without = resident_bytes(LARGE_AMONG_SMALL.replace("\nreturn_large_blocks()", ""))
    assert resident_bytes(LARGE_AMONG_SMALL) < without - (20 << 20)
