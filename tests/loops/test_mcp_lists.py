"""Lists of the tools of MCP servers, as they are remembered between turns: over sessions that are none."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import trio

from chatcluster.tools.mcp_credentials import SignInNeeded
from chatcluster.tools.mcp_link import McpFailed
from chatcluster.tools.mcp_lists import ToolLists
from chatcluster.tools.mcp_wire import Trouble


async def let_in() -> Any:
    async def list_tools() -> Any:
        return SimpleNamespace(tools=(), left_out=7, seconds=None)

    return SimpleNamespace(list_tools=list_tools, opened=SimpleNamespace(instructions=""))


async def refused() -> Any:
    raise SignInNeeded


async def not_let_in() -> Any:
    raise McpFailed(Trouble.UNAUTHORIZED, "HTTP 401")


async def test_a_server_that_never_lets_us_in_is_asked_more_and_more_seldom(autojump_clock: Any) -> None:
    """Each time its tokens are made anew, which its authorization server would take for an attack."""
    looks: list[float] = []

    async def refused_list() -> Any:
        looks.append(trio.current_time())
        return await not_let_in()

    nowhere: Any = None
    server: Any = SimpleNamespace(id=uuid4(), revision=1, per_user=True, slug="notes")
    lists, user_id = ToolLists(nowhere, nowhere), uuid4()
    for _ in range(3600):
        with pytest.raises(McpFailed):
            await lists.get(server, user_id, refused_list)
        await trio.sleep(1)
    assert [round(later - one) for one, later in pairwise(looks)] == [20, 40, 80, *[120] * 28]
    lists.forget_user(server.id, user_id)
    assert (await lists.get(server, user_id, let_in)).left_out == 7, "who signs in anew is let in at once"


async def test_a_call_that_waited_for_a_sign_in_goes_on_where_another_turn_was_refused_right_before_it() -> None:
    nowhere: Any = None
    server: Any = SimpleNamespace(id=uuid4(), revision=1, per_user=True, slug="notes")
    lists, user_id = ToolLists(nowhere, nowhere), uuid4()
    with pytest.raises(McpFailed) as failed:
        await lists.get(server, user_id, refused)
    assert failed.value.trouble is Trouble.UNAUTHORIZED
    assert (await lists.get(server, user_id, let_in)).left_out == 7


@pytest.mark.parametrize(
    ("said", "kept"), [(None, 300), (0.0, 300), (0.5, 20), (60.0, 60), (86_400.0, 300), (float("inf"), 300)]
)
async def test_a_list_is_good_for_as_long_as_its_server_says_within_bounds(
    autojump_clock: Any, said: float | None, kept: int
) -> None:
    """A server that says nothing sends 0 as well: a turn that calls nothing would connect to each such server."""
    looks: list[float] = []

    async def look() -> Any:
        async def list_tools() -> Any:
            looks.append(trio.current_time())
            return SimpleNamespace(tools=(), left_out=0, seconds=said)

        return SimpleNamespace(list_tools=list_tools, opened=SimpleNamespace(instructions=""))

    nowhere: Any = None
    server: Any = SimpleNamespace(id=uuid4(), revision=1, per_user=False, slug="notes")
    lists = ToolLists(nowhere, nowhere)
    while len(looks) < 2:
        await lists.get(server, uuid4(), look)
        await trio.sleep(0.5)
    assert looks[1] - looks[0] == pytest.approx(kept, abs=0.5)


async def test_a_look_that_began_before_its_server_was_tested_is_not_remembered(autojump_clock: Any) -> None:
    """It may have been answered before the server was mended."""
    looks: list[float] = []

    async def look() -> Any:
        looks.append(trio.current_time())
        await trio.sleep(5)
        return await let_in()

    nowhere: Any = None
    server: Any = SimpleNamespace(id=uuid4(), revision=1, per_user=False, slug="notes")
    lists, user_id = ToolLists(nowhere, nowhere), uuid4()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lists.get, server, user_id, look)
        await trio.sleep(1)
        lists.forget_server(server.id)
    for _ in range(3):
        await trio.sleep(2)
        assert (await lists.get(server, user_id, look)).left_out == 7
    assert len(looks) == 2
