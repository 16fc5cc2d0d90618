"""What a session with an MCP server tells the replica, in the process beside it."""

from __future__ import annotations

import trio
import trio.testing

from chatcluster.tools.mcp_session import CHANGED_SECONDS_MIN, Changes
from chatcluster.tools.mcp_wire import Reply


async def test_p10_changes_without_end_are_told_now_and_then_and_the_last_one_always(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    told: list[float] = []

    async def say(_: Reply) -> None:
        told.append(trio.current_time())

    changes = Changes(7, say)
    nursery.start_soon(changes.tell_late)
    began_at = trio.current_time()
    while trio.current_time() < began_at + 10 * CHANGED_SECONDS_MIN:
        await changes.note()
        last = trio.current_time()
        await trio.sleep(0.01)
    assert told[0] == began_at, "at once"
    await trio.sleep(2 * CHANGED_SECONDS_MIN)
    assert len(told) <= 12
    assert told[-1] >= last
    count = len(told)
    await trio.sleep(2 * CHANGED_SECONDS_MIN)
    await changes.note()
    assert (len(told), told[-1]) == (count + 1, trio.current_time())
