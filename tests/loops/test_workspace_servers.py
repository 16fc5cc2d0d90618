"""The tools of the servers that a workspace's ``.mcp.json`` names, as a chat has them: over a scripted agent."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from chatcluster.chat import CallState, OpenCall
from chatcluster.parts import ImagePart, ResourcePart, TextPart
from chatcluster.ports import Approval, Effect
from chatcluster.ports.workspaces import WorkspaceState
from chatcluster.tools.workspace_servers import SILENT_SECONDS, START_SECONDS_MAX
from chatcluster.workspace_mcp import McpAnswer, McpContent, McpResult, McpServer, McpState, McpTool
from loops.workspace_fakes import Script
from loops.workspace_turns import Place

SCHEMA = '{"type":"object","properties":{"day":{"type":"string"}},"required":["day"]}'
TOOL = McpTool(name="forecast", description="The weather of a day", schema=SCHEMA)
WEATHER = McpServer(name="weather", state=McpState.READY, instructions="Ask for one day.", tools=(TOOL,))


def place_with(*servers: McpServer, error: str = "", **fields: Any) -> Place:
    place = Place(**fields)
    place.agent.mcp_says = [McpAnswer(servers=servers, error=error)]
    return place


async def test_they_are_offered_by_the_name_of_their_server_and_tracked() -> None:
    place = place_with(WEATHER)
    async with place.turn() as turn:
        tool = {one.name: one for one in await turn.tools.tools()}["weather__forecast"]
        assert (tool.effect, tool.approval) == (Effect.TRACKED, Approval.NEVER)
        assert tool.parameters["required"] == ["day"]
        assert turn.tools.instructions == (("weather", "Ask for one day."),)
        assert turn.tools.notices == ()


async def test_a_call_is_put_to_the_agent_with_a_deadline_and_its_result_comes_back_as_it_is() -> None:
    place = place_with(WEATHER)
    picture = McpContent(data="aGk=", mime_type="image/png")
    link = McpContent(uri="file:///a", name="a", mime_type="text/plain")
    place.agent.mcp_gives = McpResult(content=(McpContent(text="rain"), picture, link), is_error=True)
    async with place.turn() as turn:
        told = await turn.run("weather__forecast", "c1", day="monday")
    assert told.is_error
    assert told.result.content == (
        TextPart("rain"),
        ImagePart("image/png", "aGk="),
        ResourcePart("file:///a", "a", "text/plain"),
    )
    request = place.agent.calls["c1"].request
    assert request.input == {"server": "weather", "tool": "forecast", "arguments": {"day": "monday"}}
    assert request.deadline_seconds == 600
    assert place.touched, "it may have changed files"


async def test_a_call_that_was_put_before_is_gone_on_with_by_the_next_owner() -> None:
    place = place_with(WEATHER)
    place.agent.scripts["forecast"] = Script(ends_after=5.0)
    async with place.turn() as turn, trio.open_nursery() as nursery:
        nursery.start_soon(partial(turn.run, "weather__forecast", "c1", day="monday"))
        await trio.sleep(2)
        place.ledger.calls = (OpenCall("c1", "weather__forecast", CallState.STARTED),)
        nursery.cancel_scope.cancel()
    async with place.turn() as turn:
        assert (await turn.run("weather__forecast", "c1", day="monday")).text == "done"
    assert place.agent.calls["c1"].began_at == 0.0
    assert place.agent.cancelled == []


async def test_a_call_that_failed_is_an_error_result_that_says_why() -> None:
    place = place_with(WEATHER)
    async with place.turn() as turn:
        await turn.run("weather__forecast", "c1", day="monday")
        place.agent.calls["c1"].error = "mcp_failed: the server is gone: it ended (exit code 1)"
        told = await turn.run("weather__forecast", "c1", day="monday")
    assert told.is_error
    assert "exit code 1" in told.text


async def test_a_server_or_a_file_that_is_wrong_costs_its_tools_and_is_said() -> None:
    broken = McpServer(name="broken", state=McpState.FAILED, error="it ended (exit code 1): no module")
    more = McpServer(name="more", state=McpState.READY, tools=(TOOL,), left_out=2)
    place = place_with(WEATHER, broken, more, error=".mcp.json is not what it should be")
    async with place.turn() as turn:
        offered = [tool.name for tool in await turn.tools.tools()]
        assert {"weather__forecast", "more__forecast"} <= set(offered)
        assert [(notice.code, notice.source) for notice in turn.tools.notices] == [
            ("workspace_mcp_file", None),
            ("mcp_unavailable", "broken"),
            ("mcp_tools_left_out", "more"),
        ]
        assert "no module" in turn.tools.notices[1].message


async def test_p10_a_turn_has_room_for_a_hundred_of_them() -> None:
    many = tuple(McpTool(name=f"t{number}", description="", schema="{}") for number in range(80))
    place = place_with(*(McpServer(name=name, state=McpState.READY, tools=many) for name in "ab"))
    async with place.turn() as turn:
        assert sum("__t" in name for name in turn._offered) == 100
        assert "60 tools" in turn.tools.notices[0].message


async def test_b108_a_slow_server_is_waited_for_and_no_longer_than_ten_seconds() -> None:
    starting = McpAnswer(servers=(McpServer(name="weather", state=McpState.STARTING),))
    place = Place()
    place.agent.mcp_says = [starting, starting, starting, starting, McpAnswer(servers=(WEATHER,))]
    async with place.turn() as turn:
        assert trio.current_time() == 8
        assert "weather__forecast" in turn._offered
    place.agent.mcp_says = [starting]
    async with place.turn() as turn:
        assert trio.current_time() == 8 + START_SECONDS_MAX
        assert [notice.code for notice in turn.tools.notices] == ["mcp_unavailable"]


async def test_b108_the_turn_that_makes_the_workspace_has_its_tools() -> None:
    place = place_with(WEATHER, has_workspace=False)
    async with place.turn() as turn:
        assert "weather__forecast" not in turn._offered
        told = await turn.run("create_workspace", template_id=str(place.template.id))
        assert told.result.renews_tools
        assert "weather__forecast" in [tool.name for tool in await turn.tools.tools()]
    place = Place(has_workspace=False)
    async with place.turn() as turn:
        told = await turn.run("create_workspace", template_id=str(place.template.id))
        assert not told.result.renews_tools, "there are none: the tools stay as they are"


async def test_a_call_beside_one_that_asks_for_the_tools_anew_is_run_and_one_of_a_server_that_is_gone_says_so() -> None:
    place = place_with(WEATHER)
    starting = McpAnswer(servers=(McpServer(name="weather", state=McpState.STARTING),))
    async with place.turn() as turn:
        place.agent.mcp_says = [starting, McpAnswer()]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(turn.run, "create_workspace", "c1", template_id=str(place.template.id)))
            await trio.sleep(1)
            assert (await turn.run("weather__forecast", "c2", day="monday")).text == "done"
        told = await turn.run("weather__forecast", "c3", day="monday")
    assert told.is_error
    assert "not run" in told.text
    assert "c3" not in place.agent.calls


async def test_p10_an_agent_that_is_silent_costs_one_turn_some_seconds_and_the_next_ones_nothing() -> None:
    place = place_with(WEATHER)
    async with place.turn():
        place.agent.silent = True
    began = trio.current_time()
    async with place.turn() as turn:
        assert trio.current_time() - began <= 5
        assert "execute" in turn._offered
    began = trio.current_time()
    async with place.turn():
        assert trio.current_time() == began
    place.agent.silent = False
    await trio.sleep(SILENT_SECONDS)
    async with place.turn() as turn:
        assert "weather__forecast" in turn._offered


async def test_the_template_says_whether_a_person_is_asked_and_whether_the_file_is_read() -> None:
    place = place_with(WEATHER, mcp_approval="ask")
    async with place.turn() as turn:
        assert turn._offered["weather__forecast"].approval is Approval.ASK
    place = place_with(WEATHER, mcp_approval="deny")
    async with place.turn() as turn:
        assert "weather__forecast" not in turn._offered
    assert place.agent.looks_for_servers == 0


async def test_a_workspace_that_does_not_run_is_not_asked() -> None:
    place = place_with(WEATHER)
    place.is_(WorkspaceState.STOPPED)
    async with place.turn() as turn:
        assert "weather__forecast" not in turn._offered
    assert place.agent.looks_for_servers == 0
