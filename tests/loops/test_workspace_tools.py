"""The tools of workspaces: their shapes, limits and words, over a scripted agent; and what a dead, slow or missing
workspace costs."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import trio

from chatcluster.arguments import BadArguments
from chatcluster.chat import CallState, OpenCall, Status
from chatcluster.parts import ImagePart
from chatcluster.ports import Effect
from chatcluster.ports.workspaces import Startup, WorkspaceState
from chatcluster.tool_results import SHOWN_BYTES_MAX, taken
from chatcluster.tools.offered_templates import TEMPLATES_SECONDS
from chatcluster.tools.workspace_commands import _DUMP, ENVIRONMENT, RESULT_BYTES_MAX, fitted, seconds_of
from chatcluster.tools.workspace_link import ANSWER_SECONDS_MAX, Refused
from loops.workspace_fakes import PICTURE, FakeAgent, Script, template
from loops.workspace_turns import Place, agents_md

# --- which tools ------------------------------------------------------------------------------


async def names(place: Place) -> list[str]:
    async with place.turn() as turn:
        return [tool.name for tool in await turn.tools.tools()]


async def test_they_are_offered_where_there_is_a_template() -> None:
    place = Place()
    assert len(await names(place)) == 12
    place.rows.known[:] = [template(deprecated=True)]
    await trio.sleep(TEMPLATES_SECONDS)
    assert await names(place) == []


async def test_agents_work_in_the_workspace_of_the_chat_at_the_top_and_make_none() -> None:
    root = uuid4()
    place = Place(depth=1, root_id=root, parent_id=root)
    assert set(await names(place)) == {
        *("read_file", "write_file", "edit_files", "execute"),
        *("process_output", "process_list", "process_signal"),
    }
    assert place.row.chat_id == root
    async with place.turn() as turn:
        assert (await turn.run("write_file", path="a", content="b"))["ok"]
    assert place.agent.calls["c1"].request.chat_id == str(place.chat.id), "fenced by the chat that calls"


async def test_a_turn_of_a_deployment_without_templates_costs_nothing() -> None:
    place = Place(has_workspace=False)
    place.rows.known.clear()
    for _ in range(10):
        await names(place)
    assert place.rows.looked_for_templates == 1


async def test_what_a_takeover_may_do_with_each() -> None:
    async with Place().turn() as turn:
        effects = {tool.name: tool.effect for tool in await turn.tools.tools()}
    tracked = {name for name, effect in effects.items() if effect is Effect.TRACKED}
    assert tracked == {"write_file", "edit_files", "execute", "process_signal"}
    assert Effect.ONCE not in effects.values()


# --- execute ----------------------------------------------------------------------------------


async def test_a_command_gives_its_output_and_its_exit_code() -> None:
    place = Place()
    place.agent.scripts["make"] = Script([(0.0, b"one\n"), (2.0, b"two\n")], ends_after=3.0)
    async with place.turn() as turn:
        told = await turn.run("execute", command="make", workdir="src")
    assert (told["success"], told["output"], told["exit_code"]) == (True, "one\ntwo\n", 0)
    assert told["wall_duration_ms"] == pytest.approx(3000, abs=50)
    assert not {"error", "truncated", "note", "background_process_id"} & told.value.keys()
    assert turn.printed == b"one\ntwo\n", "and it is told while it runs"
    assert place.agent.calls["c1"].request.input["workdir"] == "src"


async def test_commands_run_where_nobody_can_be_asked() -> None:
    place = Place()
    async with place.turn() as turn:
        await turn.run("execute", command="git commit")
    env = place.agent.calls["c1"].request.input["env"]
    assert env.items() >= ENVIRONMENT.items()
    assert (env["EDITOR"], env["PAGER"], env["TERM"], env["GIT_TERMINAL_PROMPT"]) == ("true", "cat", "dumb", "0")


@pytest.mark.parametrize(
    ("script", "exit_code", "error"),
    [
        (Script([(0.0, b"no\n")], exit_code=2), 2, "exit status 2"),
        (Script(exit_code=None, signal=9), 137, "ended by signal 9"),
    ],
)
async def test_one_that_ends_badly_is_a_result_like_any_other(script: Script, exit_code: int, error: str) -> None:
    place = Place()
    place.agent.scripts["make"] = script
    async with place.turn() as turn:
        told = await turn.run("execute", command="make")
    assert (told["success"], told["exit_code"], told["error"]) == (False, exit_code, error)
    assert not told.is_error


async def test_one_that_takes_longer_than_its_time_out_goes_on_and_can_be_followed() -> None:
    place = Place()
    place.agent.scripts["serve"] = Script([(1.0, b"up\n"), (30.0, b"hit\n")], ends_after=60.0)
    async with place.turn() as turn:
        began_at = trio.current_time()
        told = await turn.run("execute", command="serve")
        assert trio.current_time() - began_at == pytest.approx(10.0, abs=1.1), "10 s by default"
        assert (told["success"], told["exit_code"], told["output"]) == (False, -1, "up\n")
        assert "timed out after 10 s" in told["error"]
        process_id = told["background_process_id"]
        later = await turn.run("process_output", process_id=process_id)
        assert (later["success"], later["output"], "still running" in later["note"]) == (True, "up\n", True)
        assert later["next_offset"] == 3
        more = await turn.run("process_output", process_id=process_id, offset=3, wait="50s")
        assert more["output"] == "hit\n"
        await trio.sleep(40)
        ended = await turn.run("process_output", process_id=process_id, offset=7)
        assert (ended["success"], ended["output"], ended["exit_code"]) == (True, "", 0)
    assert place.agent.cancelled == []


async def test_what_is_followed_has_each_character_once_and_whole() -> None:
    place = Place()
    place.agent.scripts["slow"] = Script([(1.0, b"caf\xc3"), (30.0, b"\xa9 \xff\n")], ends_after=60.0)
    async with place.turn() as turn:
        process_id = (await turn.run("execute", command="slow"))["background_process_id"]
        first = await turn.run("process_output", process_id=process_id)
        assert (first["output"], first["next_offset"]) == ("caf", 3)
        nothing = await turn.run("process_output", process_id=process_id, offset=3, wait="5s")
        assert (nothing["output"], nothing["next_offset"]) == ("", 3)
        rest = await turn.run("process_output", process_id=process_id, offset=3, wait="50s")
        assert (rest["output"], rest["next_offset"]) == ("é \ufffd\n", 8)


async def test_who_reads_on_behind_the_end_is_told_where_that_is() -> None:
    place = Place()
    place.agent.scripts["serve"] = Script([(1.0, b"up\n"), (30.0, b"hit\n")], ends_after=60.0)
    async with place.turn() as turn:
        process_id = (await turn.run("execute", command="serve"))["background_process_id"]
        assert (await turn.run("process_output", process_id=process_id, offset=1000))["next_offset"] == 3
        more = await turn.run("process_output", process_id=process_id, offset=1000, wait="50s")
        assert (more["output"], more["next_offset"]) == ("hit\n", 7)


@pytest.mark.parametrize("ends_after", [1.0, 30.0])
async def test_output_that_is_said_to_be_there_and_is_not_given_is_asked_for_at_leisure(ends_after: float) -> None:
    """What runs in a workspace may have done away with it."""
    place = Place()
    place.agent.scripts["make"] = Script([(0.0, b"one\n")], ends_after=ends_after)
    place.agent.loses_output = True
    async with place.turn() as turn:
        told = await turn.run("execute", command="make", timeout="60s")
    assert (told["success"], told["output"]) == (True, "")
    assert place.agent.asked < 2 * ends_after + 5


async def test_one_in_the_background_returns_at_once() -> None:
    place = Place()
    place.agent.scripts["serve"] = Script(ends_after=None)
    async with place.turn() as turn:
        began_at = trio.current_time()
        told = await turn.run("execute", command="serve", run_in_background=True)
        assert trio.current_time() - began_at < 1
        assert (told["success"], told["background_process_id"]) == (True, "c1")
        (process,) = (await turn.run("process_list"))["processes"]
        assert (process["process_id"], process["running"], process["background"]) == ("c1", True, True)
        assert (await turn.run("process_signal", process_id="c1", signal="terminate"))["success"]
        told = await turn.run("process_signal", process_id="c1", signal="kill")
        assert (told["success"], told.is_error) == (False, True)
        with pytest.raises(BadArguments):
            await turn.run("process_signal", process_id="c1", signal="stop")


@pytest.mark.parametrize("piece", [b"line of output\n", "çé€🙂\n".encode(), b'"\\\x01\n', b"\xff\xfe"])
@pytest.mark.parametrize("size", [100, 20_000, 40_000, 3_000_000])
def test_the_model_gets_32_kib_cut_between_characters_and_is_told(piece: bytes, size: int) -> None:
    output = (piece * size)[:size]
    text, is_cut = fitted({"success": True, "exit_code": 0}, output)
    assert len(text.encode()) <= RESULT_BYTES_MAX < SHOWN_BYTES_MAX
    told = json.loads(text)
    assert list(told)[:2] == ["success", "output"]
    if not is_cut:
        assert "truncated" not in told
        return
    assert told["truncated"]["original_bytes"] == size
    assert told["truncated"]["shown_bytes"] > 4000
    head, tail = told["output"].split("\n[… ")[0], told["output"].split(" left out …]\n")[1]
    if b"\xff" not in piece:
        shown = told["truncated"]["left_out_at"]
        assert output[:shown].decode() == head.replace("\ufffd", "\0") if b"\0" in piece else head
        assert output.decode(errors="ignore").endswith(tail.rstrip("\ufffd"))


async def test_the_whole_output_is_kept_for_read_result() -> None:
    place = Place()
    output = b"".join(b"%06d\n" % number for number in range(100_000))
    place.agent.scripts["seq"] = Script([(0.0, output)])
    async with place.turn() as turn:
        told = await turn.run("execute", command="seq")
    assert told.result.whole == output
    assert told["truncated"]["original_bytes"] == len(output)
    fit = taken("c1", told.result.content, is_error=False, bytes_max=10 << 20)
    assert fit.whole is None, "the text that the model gets is not cut once more"


async def test_of_a_command_that_prints_without_end_what_is_kept_is_bounded_and_said() -> None:
    place = Place()
    place.agent.scripts["yes"] = Script([(0.0, b"y\n" * 500_000)], kept_bytes_max=100_000)
    async with place.turn() as turn:
        told = await turn.run("execute", command="yes")
    assert told.result.whole is not None
    assert len(told.result.whole) == 100_000
    assert "900000 bytes are gone" in told["note"]


@pytest.mark.parametrize(
    ("command", "noted"),
    [
        ("cat a.txt", True),
        ("grep -rn foo src", True),
        ("sed -n 1,20p a", True),
        ("cat a | sort", False),
        ("make", False),
        ("cat > b", False),
    ],
)
async def test_who_dumps_a_file_is_told_of_read_file(command: str, noted: bool) -> None:
    async with Place().turn() as turn:
        told = await turn.run("execute", command=command)
    assert ("read_file" in told.value.get("note", "")) is noted


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("7", 7), ("1.5m", 90)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-1s", "10 s 3", "s", "9" * 50])
def test_what_is_no_duration_is_said_to_be(text: str) -> None:
    with pytest.raises(Refused, match="timeout is no duration"):
        seconds_of(text)


# --- a takeover, a stop -----------------------------------------------------------------------


async def test_who_runs_a_call_again_attaches_and_reads_its_output_from_the_beginning() -> None:
    place = Place()
    place.agent.scripts["make"] = Script([(0.0, b"1\n"), (5.0, b"2\n")], ends_after=6.0)
    place.ledger.calls = (OpenCall("c1", "execute", CallState.STARTED),)
    async with place.turn() as first:
        with trio.move_on_after(3):
            await first.run("execute", "c1", command="make", timeout="20s")
    async with place.turn() as second:
        told = await second.run("execute", "c1", command="make", timeout="20s")
    assert (told["output"], second.printed) == ("1\n2\n", b"1\n2\n")
    assert len(place.agent.calls) == 1


async def cancelled(place: Place) -> None:
    place.agent.scripts["make"] = Script(ends_after=None)
    async with place.turn() as turn:
        with trio.move_on_after(3):
            await turn.run("execute", "c1", command="make")


async def test_a_stop_ends_the_command_at_once() -> None:
    place = Place()
    place.ledger.calls = (OpenCall("c1", "execute", CallState.STARTED),)
    place.ledger.chat = msgspec.structs.replace(place.chat, status=Status.INTERRUPTING)
    await cancelled(place)
    assert place.agent.cancelled == ["c1"]


async def test_an_edit_that_takes_the_call_away_ends_it_too() -> None:
    place = Place()
    await cancelled(place)
    assert place.agent.cancelled == ["c1"]


async def test_what_a_drain_or_a_takeover_leaves_to_the_next_owner_goes_on() -> None:
    place = Place()
    place.ledger.calls = (OpenCall("c1", "execute", CallState.PENDING),)
    await cancelled(place)
    assert place.agent.cancelled == []


async def test_a_stale_owner_does_nothing_in_the_workspace() -> None:
    place = Place()
    place.agent.epochs[str(place.chat.id)] = 4
    async with place.turn() as turn:
        told = await turn.run("execute", command="make")
    assert told.is_error
    assert not place.agent.calls


# --- files ------------------------------------------------------------------------------------


async def test_a_file_is_written_edited_and_read() -> None:
    place = Place()
    async with place.turn() as turn:
        told = await turn.run("write_file", path="a.py", content="x = 1\n")
        assert told.value == {"ok": True, "path": "a.py", "bytes": 6, "created": True}
        edits = [{"search": "1", "replace": "2"}]
        assert (await turn.run("edit_files", files=[{"path": "a.py", "edits": edits}]))["ok"]
        told = await turn.run("read_file", path="a.py")
    assert told.value == {"content": "x = 2\n", "mime_type": "text/plain", "size_bytes": 6}
    assert place.touched == ["python-1"] * 3, "who shows what changed looks: when work begins, and at each change"


async def test_an_edit_without_files_says_what_is_required() -> None:
    async with Place().turn() as turn:
        told = await turn.run("edit_files", files=[])
    assert told.is_error
    assert "files is required" in told.text


async def test_an_edit_that_does_not_match_is_an_error_that_says_where() -> None:
    place = Place()
    place.agent.files["a.py"] = b"x = 1\n"
    async with place.turn() as turn:
        told = await turn.run("edit_files", files=[{"path": "a.py", "edits": [{"search": "y", "replace": "z"}]}])
    assert told.is_error
    assert "a.py" in told.text


async def test_a_long_file_is_read_by_pieces_that_join_to_the_whole() -> None:
    place = Place()
    text = "".join(f"Zeile {number} mit ä und 🙂\n" for number in range(4000))
    place.agent.files["long"] = text.encode()
    read, offset, more = "", 0, True
    async with place.turn() as turn:
        while more:
            told = await turn.run("read_file", path="long", offset=offset)
            assert len(told.text.encode()) <= SHOWN_BYTES_MAX
            read += told["content"]
            offset, more = told["next_offset"], "truncated" in told.value
    assert read == text


async def test_an_image_is_given_as_one_and_other_bytes_are_not_shown() -> None:
    place = Place()
    place.agent.files |= {"a.png": PICTURE, "a.bin": b"\0\1\2"}
    async with place.turn() as turn:
        told = await turn.run("read_file", path="a.png")
        assert told["mime_type"] == "image/png"
        assert any(isinstance(piece, ImagePart) for piece in told.result.content)
        told = await turn.run("read_file", path="a.bin")
        assert (told["content"], told["mime_type"]) == ("", "application/octet-stream")
        assert (await turn.run("read_file", path="gone")).is_error


# --- dead, slow, gone -------------------------------------------------------------------------


async def test_a_dial_that_fails_is_made_once_more_looked_up_anew() -> None:
    place = Place()
    place.agent.dead, place.directory.moved_to = True, FakeAgent()
    async with place.turn() as turn:
        told = await turn.run("write_file", path="a", content="b")
    assert told["ok"]
    assert place.directory.looked_up == 2


@pytest.mark.parametrize("how", ["silent", "dead"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("execute", {"command": "make"}),
        ("read_file", {"path": "a"}),
        ("write_file", {"path": "a", "content": "b"}),
        ("process_list", {}),
        ("process_output", {"process_id": "c0"}),
    ],
)
async def test_one_that_does_not_answer_costs_an_error_result_within_5_s(
    how: str, name: str, arguments: dict[str, Any]
) -> None:
    place = Place()
    async with place.turn() as turn:
        setattr(place.agent, how, True)
        began_at = trio.current_time()
        told = await turn.run(name, **arguments)
        assert trio.current_time() - began_at <= ANSWER_SECONDS_MAX + 0.01
    assert told.is_error
    assert "does not answer right now" in told.text
    assert "stop_workspace" in told.text, "and it says what recovers it"


async def test_one_that_dies_while_a_command_runs_is_an_error_result_within_5_s() -> None:
    place = Place()
    place.agent.scripts["make"] = Script(ends_after=None)
    async with place.turn() as turn, trio.open_nursery() as nursery:

        async def die() -> None:
            await trio.sleep(3)
            place.agent.silent = True

        nursery.start_soon(die)
        began_at = trio.current_time()
        told = await turn.run("execute", command="make", timeout="5m")
        assert trio.current_time() - began_at < 3 + 1 + ANSWER_SECONDS_MAX
    assert told.is_error


@pytest.mark.parametrize(
    ("state", "way_out"),
    [
        (WorkspaceState.STOPPED, "start_workspace"),
        (WorkspaceState.LOST, "create_workspace"),
        (WorkspaceState.FAILED, "the disk is full"),
        (WorkspaceState.STARTING, "in a moment"),
    ],
)
async def test_one_that_does_not_run_says_so_at_once_and_what_to_do(state: WorkspaceState, way_out: str) -> None:
    place = Place()
    place.is_(state, detail="the disk is full" if state is WorkspaceState.FAILED else "")
    async with place.turn() as turn:
        began_at = trio.current_time()
        told = await turn.run("execute", command="make")
        assert trio.current_time() == began_at
    assert told.is_error
    assert way_out in told.text
    assert "does not answer" not in told.text, "other words than for one that may answer in a moment"


async def test_a_chat_without_one_is_told_to_make_one_and_an_agent_to_report_it() -> None:
    async with Place(has_workspace=False).turn() as turn:
        assert "create_workspace" in (await turn.run("execute", command="make")).text
    async with Place(has_workspace=False, depth=1, root_id=uuid4()).turn() as turn:
        told = await turn.run("execute", command="make")
    assert told.is_error
    assert "report" in told.text
    assert "create_workspace" not in told.text


async def test_while_postgres_is_away_a_tool_is_an_error_result_and_the_list_stays() -> None:
    place = Place()
    async with place.turn() as turn:
        place.rows.away = place.agent.dead = True
        await trio.sleep(TEMPLATES_SECONDS)
        told = await turn.run("execute", command="make")
    assert told.is_error
    assert "cannot be looked up right now" in told.text
    assert await place.toolbox.offered.to(place.chat.owner_id), "what was known stands"


async def test_who_works_in_it_keeps_it_running() -> None:
    place = Place()
    async with place.turn() as turn:
        for _ in range(3):
            await turn.run("execute", command="make")
        assert place.rows.bumped == 1, "not a request for each call"


# --- its life ---------------------------------------------------------------------------------


async def test_templates_are_listed_and_read() -> None:
    place = Place(has_workspace=False)
    place.rows.known.append(template("go", description="Go", display_name="Go 1.22"))
    async with place.turn() as turn:
        told = await turn.run("list_templates")
        assert told["count"] == 2
        assert len(told["templates"][0]["description"]) == 200
        assert (await turn.run("list_templates", query="GO"))["templates"][0]["display_name"] == "Go 1.22"
        told = await turn.run("read_template", template_id=str(place.template.id))
        assert told["template"]["name"] == "python"
        assert told["parameters"] == []
        assert (await turn.run("read_template", template_id="no")).is_error


async def test_a_workspace_is_made_once_and_is_ready_when_the_call_returns() -> None:
    place = Place(has_workspace=False)
    place.rows.builds_in, place.rows.lines = 5.0, ["unpacking", "done"]
    place.agent.agents_md.append(agents_md("Be kind."))
    async with place.turn() as turn:
        told = await turn.run("create_workspace", template_id="python")
        assert (told["created"], told["agent_status"]) == (True, "ready")
        assert told["workspace_name"].startswith("python-")
        assert len(told["workspace_name"]) == len("python-") + 4
        assert "<workspace-instructions>\nBe kind.\n</workspace-instructions>" in told.text, "in the turn that made it"
        assert turn.printed == b"unpacking\ndone\n", "its log is shown while it is built"
        assert (await turn.run("execute", command="make"))["success"]
        again = await turn.run("create_workspace", template_id="python", name="other")
        assert (again["created"], again["status"]) == (False, "already_exists")
    assert len(place.rows.rows) == 1


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "\u202eabc", "   "])
async def test_a_name_that_people_could_not_read_is_none(name: str) -> None:
    place = Place(has_workspace=False)
    async with place.turn() as turn:
        told = await turn.run("create_workspace", template_id="python", name=name)
    assert told.is_error
    assert "name" in told.text
    assert not place.rows.rows


async def test_one_that_cannot_be_built_says_why() -> None:
    place = Place(has_workspace=False)
    place.rows.ends_as = WorkspaceState.FAILED
    async with place.turn() as turn:
        told = await turn.run("create_workspace", template_id="python")
    assert told.is_error
    assert told["agent_status"] == "no_agent"


async def test_one_whose_agent_does_not_come_is_not_ready() -> None:
    place = Place(has_workspace=False)
    place.agent.dead = True
    async with place.turn() as turn:
        began_at = trio.current_time()
        told = await turn.run("create_workspace", template_id="python")
        assert 120 <= trio.current_time() - began_at < 130
    assert told["agent_status"] == "not_ready"


@pytest.mark.parametrize("name", ["create_workspace", "start_workspace"])
async def test_one_that_runs_and_does_not_answer_is_told_within_5_s_and_can_be_brought_back(name: str) -> None:
    place = Place()
    place.agent.silent = True
    asked = {"template_id": "python"} if name == "create_workspace" else {}
    async with place.turn() as turn:
        began_at = trio.current_time()
        told = await turn.run(name, **asked)
        assert trio.current_time() - began_at < ANSWER_SECONDS_MAX + 0.5
        assert told["agent_status"] == "not_ready"
        assert "stop_workspace" in told["agent_error"]
        assert (await turn.run("stop_workspace"))["stopped"]
        place.agent.silent = False
        assert (await turn.run("start_workspace"))["agent_status"] == "ready"


async def test_a_start_up_script_is_waited_for_and_its_end_told() -> None:
    place = Place()
    place.is_(WorkspaceState.STOPPED, startup=Startup.FAILED)
    async with place.turn() as turn:
        told = await turn.run("start_workspace")
        assert (told["started"], told["startup_scripts"]) == (True, "failed")
        assert not (await turn.run("start_workspace"))["started"]


async def test_the_log_of_a_start_is_told_whole_and_once_and_not_that_of_earlier_ones() -> None:
    place = Place()
    place.is_(WorkspaceState.STOPPED, startup=Startup.RUNNING)
    place.rows.lines = ["of an earlier start"] * 300
    lines = [f"line {number}" for number in range(1000)]

    async def go_on() -> None:
        for start, end in ((0, 300), (300, 500)):
            await trio.sleep(0.7)
            place.rows.lines += lines[start:end]
        await trio.sleep(3)
        place.rows.lines += lines[500:]
        row = place.rows.rows[place.row.id]
        place.rows.rows[row.id] = msgspec.structs.replace(row, startup=Startup.SUCCEEDED)

    async with place.turn() as turn, trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        assert (await turn.run("start_workspace"))["startup_scripts"] == "succeeded"
    assert turn.printed.decode().splitlines() == lines


async def test_one_whose_end_its_host_has_yet_to_notice_is_started_as_well() -> None:
    place = Place()
    place.agent.dead = True

    async def notice() -> None:
        await trio.sleep(2)
        place.is_(WorkspaceState.STOPPED)
        place.agent.dead = False

    async with place.turn() as turn, trio.open_nursery() as nursery:
        nursery.start_soon(notice)
        began_at = trio.current_time()
        told = await turn.run("start_workspace")
        assert (told["started"], told["agent_status"]) == (True, "ready")
        assert trio.current_time() - began_at < 10


async def test_start_without_one_is_an_error_result() -> None:
    async with Place(has_workspace=False).turn() as turn:
        told = await turn.run("start_workspace")
    assert told.is_error
    assert "create_workspace" in told.text


async def test_one_is_stopped_only_after_two_signs_that_it_is_dead() -> None:
    place = Place()
    async with place.turn() as turn:
        assert "no tool of this turn" in (await turn.run("stop_workspace")).text
        place.agent.dead = True
        await turn.run("execute", command="make")
        place.agent.dead = False
        assert "answers again" in (await turn.run("stop_workspace")).text
        assert place.row.state is WorkspaceState.RUNNING
        place.agent.dead = True
        await turn.run("execute", command="make")
        assert (await turn.run("stop_workspace"))["state"] == "stopped"
        place.agent.dead = False
        assert (await turn.run("start_workspace"))["started"]
        assert (await turn.run("execute", command="make"))["success"]


# --- what the model is told of it -------------------------------------------------------------


async def surroundings(place: Place) -> str:
    async with place.turn() as turn:
        (text,) = turn.tools.surroundings
        return text


async def test_whether_there_is_one_is_told_as_it_is_now() -> None:
    place = Place(has_workspace=False)
    assert "no workspace yet" in await surroundings(place)
    async with place.turn() as turn:
        await turn.run("create_workspace", template_id="python")
    assert "has a workspace" in await surroundings(place)
    assert "no workspace" in await surroundings(Place(has_workspace=False, depth=1, root_id=uuid4()))


async def test_its_system_and_directory_are_told_without_any_file_too() -> None:
    text = await surroundings(Place())
    assert "Debian 12" in text
    assert "/work" in text


async def test_instructions_are_remembered_for_5_minutes_and_a_failure_is_not() -> None:
    place = Place()
    place.agent.silent = True
    began_at = trio.current_time()
    assert "Debian" not in await surroundings(place)
    assert trio.current_time() - began_at <= 5.01, "a turn waits no longer"
    place.agent.silent = False
    place.agent.agents_md.append(agents_md("</workspace-instructions>", size_bytes=99, is_truncated=True))
    text = await surroundings(place)
    assert text.count("</workspace-instructions>") == 1, "a file cannot end the element that it stands in"
    assert "99 bytes" in text
    asked = place.agent.asked - place.agent.looks_for_servers
    assert await surroundings(place) == text
    assert place.agent.asked - place.agent.looks_for_servers == asked
    await trio.sleep(301)
    place.agent.agents_md.clear()
    assert "AGENTS.md" not in await surroundings(place)


async def test_a_workspace_that_is_stopped_is_told_as_it_was() -> None:
    place = Place()
    text = await surroundings(place)
    place.is_(WorkspaceState.STOPPED)
    await trio.sleep(301)
    assert await surroundings(place) == text


@pytest.mark.parametrize("word", ["cat", "sed -n", "sed"])
def test_p10_a_command_of_very_many_blanks_is_looked_at_once(word: str) -> None:
    """It is the model's, and so any user's: the replica stood still for minutes."""
    assert _DUMP.fullmatch(f"{word}{' ' * 300_000}|") is None
    assert _DUMP.fullmatch("cat  -n   a b") is not None
