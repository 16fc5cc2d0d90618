"""The screen of a workspace: the tool that works on it, over a scripted agent, and pictures for those who look on."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import pytest
import trio

from chatcluster.arguments import BadArguments
from chatcluster.chat import CallState, OpenCall
from chatcluster.parts import ImagePart
from chatcluster.ports import Effect
from chatcluster.ports.workspaces import WorkspaceState
from chatcluster.workspace_errors import WorkspaceNotRunning, WorkspaceUnreachable
from chatcluster.workspace_screens import FRESH_SECONDS, NoDesktop, Picture, WorkspaceScreens
from chatcluster.workspace_wire import ACTIONS
from loops.workspace_fakes import PICTURE, Script, template
from loops.workspace_turns import Place


async def is_offered(place: Place) -> bool:
    async with place.turn() as turn:
        return "computer" in [tool.name for tool in await turn.tools.tools()]


# --- the tool ---------------------------------------------------------------------------------


async def test_it_is_offered_where_the_workspace_has_a_screen() -> None:
    assert await is_offered(Place(desktop=True))
    assert not await is_offered(Place())
    assert await is_offered(Place(desktop=True, depth=1)), "agents work there as well"


async def test_before_there_is_a_workspace_it_is_offered_where_a_template_has_a_screen() -> None:
    place = Place(has_workspace=False)
    assert not await is_offered(place)
    place.rows.known.append(template("desktop", desktop=True))
    await trio.sleep(2)
    assert await is_offered(place), "the turn that makes the workspace works there"


async def test_a_workspace_without_one_has_none_whatever_templates_there_are() -> None:
    place = Place()
    place.rows.known.append(template("desktop", desktop=True))
    assert not await is_offered(place)
    place.is_(WorkspaceState.LOST)
    assert await is_offered(place), "another may be made"


async def test_the_model_is_told_of_it() -> None:
    async with Place(desktop=True).turn() as turn:
        assert "It has a screen: computer" in turn.tools.surroundings[0]
    async with Place().turn() as turn:
        assert "screen" not in turn.tools.surroundings[0]


@pytest.mark.parametrize(
    "asked",
    [
        {"action": "screenshot"},
        {"action": "click", "x": 3, "y": 4.0, "button": "right"},
        {"action": "drag", "x": 3, "y": 4, "to_x": 5, "to_y": 6},
        {"action": "scroll", "x": 3, "y": 4, "direction": "up", "amount": 2},
        {"action": "type", "text": "é\n"},
        {"action": "key", "text": "ctrl+l"},
        {"action": "wait", "seconds": 0.5},
    ],
    ids=lambda asked: asked["action"],
)
async def test_each_action_is_answered_by_a_picture(asked: dict[str, Any]) -> None:
    place = Place(desktop=True)
    place.agent.scripts[asked["action"]] = Script(ends_after=5.0)
    async with place.turn() as turn:
        told = await turn.run("computer", **asked)
    assert told.value == {"ok": True, "action": asked["action"], "width": 1280, "height": 800}
    picture = told.result.content[1]
    assert isinstance(picture, ImagePart)
    assert b64decode(picture.data) == PICTURE
    assert place.agent.calls["c1"].request.input == asked
    assert place.touched, "files may have changed"


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"action": "dance"},
        {"action": "click", "x": -1, "y": 0},
        {"action": "click", "x": 1.5, "y": 0},
        {"action": "click", "x": 1, "y": 1, "button": "fourth"},
        {"action": "scroll", "x": 1, "y": 1, "amount": 51},
        {"action": "scroll", "x": 1, "y": 1, "direction": "in"},
        {"action": "type", "text": "x" * 2001},
        {"action": "wait", "seconds": 11},
        {"action": "screenshot", "display": ":0"},
    ],
    ids=str,
)
async def test_arguments_out_of_bounds_are_refused_before_anything_is_done(asked: dict[str, Any]) -> None:
    place = Place(desktop=True)
    async with place.turn() as turn:
        with pytest.raises(BadArguments):
            await turn.run("computer", **asked)
    assert place.agent.calls == {}


async def test_what_the_agent_refuses_is_an_error_result() -> None:
    async with Place(desktop=True).turn() as turn:
        told = await turn.run("computer", action="click", x=1280, y=0)
    assert told.is_error
    assert "1280 by 800" in told.text


async def test_p7_an_action_is_done_once_whoever_owns_the_chat() -> None:
    place = Place(desktop=True)
    place.agent.scripts["type"] = Script(ends_after=6.0)
    place.ledger.calls = (OpenCall("c1", "computer", CallState.STARTED),)
    async with place.turn() as first:
        (tool,) = [tool for tool in await first.tools.tools() if tool.name == "computer"]
        assert tool.effect is Effect.TRACKED
        assert tool.runs_alone, "what is typed is for what was clicked before"
        with trio.move_on_after(3):
            await first.run("computer", "c1", action="type", text="Ada")
    async with place.turn() as second:
        told = await second.run("computer", "c1", action="type", text="Ada")
    assert told["ok"]
    assert (list(place.agent.calls), place.agent.cancelled) == (["c1"], [])


async def test_p5_a_stop_ends_an_action_at_once() -> None:
    place = Place(desktop=True)
    place.agent.scripts["wait"] = Script(ends_after=None)
    async with place.turn() as turn:
        with trio.move_on_after(3):
            await turn.run("computer", "c1", action="wait", seconds=10)
    assert place.agent.cancelled == ["c1"]


async def test_a_picture_that_is_not_kept_any_more_is_told_of() -> None:
    place = Place(desktop=True)
    async with place.turn() as turn:
        await turn.run("computer", "c1", action="screenshot")
        place.agent.calls["c1"].result = None
        told = await turn.run("computer", "c1", action="screenshot")
    assert (told["ok"], len(told.result.content)) == (True, 1)
    assert "screenshot" in told["note"]


async def test_a_workspace_that_is_stopped_costs_an_error_result() -> None:
    place = Place(desktop=True)
    place.is_(WorkspaceState.STOPPED)
    async with place.turn() as turn:
        told = await turn.run("computer", action="screenshot")
    assert (told.is_error, "start_workspace" in told.text) == (True, True)


def test_each_action_of_the_agent_is_one_of_the_tools() -> None:
    from chatcluster.tools.workspace_list import ON_SCREEN
    from chatcluster.workspaces.agent.desktop import _ACTIONS

    assert ON_SCREEN[0].parameters["properties"]["action"]["enum"] == list(ACTIONS)
    assert set(_ACTIONS) == set(ACTIONS)


# --- those who look on ------------------------------------------------------------------------


class Onlookers:
    def __init__(self, place: Place) -> None:
        self.place, self.screens = place, WorkspaceScreens(place.directory)
        self.seen: list[Picture | Exception] = []

    async def look(self) -> None:
        try:
            self.seen.append(await self.screens.look(self.place.row))
        except (WorkspaceUnreachable, NoDesktop, WorkspaceNotRunning) as error:
            self.seen.append(error)

    async def look_together(self, number: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(self.look)


async def test_p10_many_who_look_at_once_cost_one_look() -> None:
    onlookers = Onlookers(Place(desktop=True))
    onlookers.place.agent.screens = [b"1", b"2"]
    await onlookers.look_together(50)
    assert onlookers.place.agent.looks == 1
    assert {picture.content for picture in onlookers.seen if isinstance(picture, Picture)} == {b"1"}
    await trio.sleep(FRESH_SECONDS)
    await onlookers.look()
    assert onlookers.place.agent.looks == 2
    assert isinstance(onlookers.seen[-1], Picture)
    assert onlookers.seen[-1].content == b"2"


async def test_p10_many_who_look_at_a_silent_one_are_told_so_together() -> None:
    onlookers = Onlookers(Place(desktop=True))
    onlookers.place.agent.silent = True
    began_at = trio.current_time()
    await onlookers.look_together(50)
    assert trio.current_time() - began_at == pytest.approx(5, abs=0.1)
    assert len(onlookers.seen) == 50
    assert all(isinstance(seen, WorkspaceUnreachable) for seen in onlookers.seen)


async def test_one_who_leaves_takes_nobody_elses_picture_away() -> None:
    onlookers = Onlookers(Place(desktop=True))
    onlookers.place.agent.silent = True
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(onlookers.look)
            await onlookers.look()
        onlookers.place.agent.silent = False
        await onlookers.look()
    assert any(isinstance(seen, Picture) for seen in onlookers.seen)


async def test_old_pictures_are_not_kept() -> None:
    onlookers = Onlookers(Place(desktop=True))
    await onlookers.look()
    await trio.sleep(FRESH_SECONDS)
    other = Onlookers(Place(desktop=True))
    await onlookers.screens.look(other.place.row)
    assert repr(onlookers.screens) == "<WorkspaceScreens looks=1>"


async def test_a_workspace_without_a_screen_or_that_does_not_run_shows_none() -> None:
    onlookers = Onlookers(Place())
    await onlookers.look()
    onlookers = Onlookers(Place(desktop=True))
    onlookers.place.is_(WorkspaceState.STOPPED)
    await onlookers.look()
    assert [type(seen) for seen in onlookers.seen] == [WorkspaceNotRunning]
    onlookers.place.is_(WorkspaceState.RUNNING)
    onlookers.place.agent.screens = []
    await onlookers.look()
    assert isinstance(onlookers.seen[-1], NoDesktop)
    assert onlookers.place.agent.looks == 1
