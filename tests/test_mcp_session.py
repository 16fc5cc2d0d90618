"""What a session with an MCP server tells the replica, in the process beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mcp_types as types
import pytest
import trio
import trio.testing
from mcp import MCPError

from chatcluster.tools.mcp_met import Refusals
from chatcluster.tools.mcp_questions import LiveQuestions
from chatcluster.tools.mcp_session import CHANGED_SECONDS_MIN, PAGES_MAX, Changes, Session
from chatcluster.tools.mcp_wire import Call, Called, Listed, Reply


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


class Pages:
    """A server's list: ``follows`` says which page comes behind one; each has a tool of its own."""

    def __init__(self, follows: dict[str | None, str | None]) -> None:
        self.read: list[str | None] = []
        self._follows = follows

    async def list_tools(self, *, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        self.read.append(params.cursor)
        tool = types.Tool(name=f"of-{params.cursor}", input_schema={"type": "object"})
        return types.ListToolsResult(tools=[tool], next_cursor=self._follows.get(params.cursor))


def in_a_row(pages: int) -> dict[str | None, str | None]:
    return {str(n) if n else None: str(n + 1) for n in range(pages - 1)}


async def listed(pages: Pages) -> Listed:
    async def say(_: Reply) -> None: ...

    client: Any = SimpleNamespace(session=pages)
    session = Session(client, Refusals(), LiveQuestions(1, say), Changes(1, say), is_sse=False)
    return await session.list_tools(1)


async def test_a_list_may_have_a_page_for_each_tool() -> None:
    pages = Pages(in_a_row(300))
    found = await listed(pages)
    assert (len(found.tools), found.left_out) == (300, 0)


@pytest.mark.parametrize("follows", [{None: ""}, {None: "a", "a": "a"}, {None: "a", "a": "b", "b": "a"}])
async def test_a_list_is_over_where_it_leads_back(follows: dict[str | None, str | None]) -> None:
    pages = Pages(follows)
    found = await listed(pages)
    assert (len(found.tools), found.left_out) == (len(follows), 0)
    assert len(pages.read) == len(follows)


async def test_a_list_without_end_is_read_up_to_what_is_taken() -> None:
    pages = Pages(in_a_row(2 * PAGES_MAX))
    found = await listed(pages)
    assert len(pages.read) == PAGES_MAX
    assert (len(found.tools), found.left_out) == (PAGES_MAX, 1), "there are more"


class Headed:
    """The session of a server that wants an argument in a header. It is told which by the list alone."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.asked: list[str] = []
        self._breaks = breaks

    async def list_tools(self, *, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        del params
        await trio.sleep(0.01)
        if self._breaks:
            self._breaks = False
            raise MCPError(types.INTERNAL_ERROR, "not now")
        self.asked.append("list")
        return types.ListToolsResult(tools=[], ttl_ms=2500)

    async def send_request(self, request: types.CallToolRequest, *_: object, **__: object) -> types.CallToolResult:
        self.asked.append(request.params.name)
        return types.CallToolResult(content=[])


@pytest.mark.parametrize(
    ("in_headers", "version", "asked"),
    [
        (True, "2026-07-28", ["list", "one", "two"]),
        (True, "2025-11-25", ["one", "two"]),
        (False, "2026-07-28", ["one", "two"]),
    ],
)
async def test_what_stands_in_headers_is_looked_up_once_before_the_first_call(
    in_headers: bool, version: str, asked: list[str]
) -> None:
    """Whoever stands before the server goes by them, and refuses nothing: so it cannot be waited for a refusal."""

    async def say(_: Reply) -> None: ...

    headed = Headed()
    client: Any = SimpleNamespace(session=headed, protocol_version=version)
    session = Session(client, Refusals(), LiveQuestions(1, say), Changes(1, say), is_sse=False)
    for number, name in enumerate(("one", "two"), 2):
        called = await session.call(Call(number, 1, name, b"{}", {}, 1000, in_headers=in_headers), say)
        assert isinstance(called, Called)
    assert headed.asked == asked
    assert (await session.list_tools(9)).seconds == 2.5


@pytest.mark.parametrize(("breaks", "sent"), [(False, 2), (True, 1)])
async def test_calls_at_once_wait_for_what_stands_in_headers_and_what_broke_is_looked_up_again(
    breaks: bool, sent: int
) -> None:
    async def say(_: Reply) -> None: ...

    headed = Headed(breaks=breaks)
    client: Any = SimpleNamespace(session=headed, protocol_version="2026-07-28")
    session = Session(client, Refusals(), LiveQuestions(1, say), Changes(1, say), is_sse=False)
    async with trio.open_nursery() as nursery:
        for number, name in enumerate(("one", "two"), 2):
            nursery.start_soon(session.call, Call(number, 1, name, b"{}", {}, 1000, in_headers=True), say)
    assert headed.asked[0] == "list"
    assert headed.asked.count("list") == 1
    assert len(headed.asked) == 1 + sent, "a call whose list broke is not sent without it"
