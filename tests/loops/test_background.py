"""Loops beside the work of a replica: whatever one of them meets, it begins anew."""

from __future__ import annotations

import pytest
import trio

from chatcluster import telemetry
from chatcluster.background import keep_on
from loops.cluster_world import World


class Loop:
    """Meets a row that nobody foresaw, at each beginning but the last."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.begun = 0

    async def run(self) -> None:
        self.begun += 1
        await trio.sleep(5)
        if self.failures:
            raise self.failures.pop()


@pytest.mark.parametrize("error", [KeyError("a row"), ExceptionGroup("two", [ValueError("1"), TypeError("2")])])
async def test_p10_an_error_that_nobody_foresaw_ends_no_loop_and_no_replica(world: World, error: Exception) -> None:
    told: list[dict[str, object]] = []
    telemetry.subscribe(listen := lambda name, fields: told.append(fields) if name == "loop.crashed" else None)
    loop = Loop(error, error)
    with trio.fail_after(30):
        await keep_on(loop.run)
    telemetry.unsubscribe(listen)
    assert loop.begun == 3
    assert [fields["loop"] for fields in told] == ["Loop.run"] * 2


async def test_a_cancelled_loop_ends(world: World) -> None:
    loop = Loop(ValueError("a row"))
    with trio.move_on_after(1):
        await keep_on(loop.run)
    assert loop.begun == 1
