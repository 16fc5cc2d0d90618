"""The tools of workspaces over a real agent, without a sandbox: what a model asks for is what happens there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from agent_process import running_agent
from loops.workspace_turns import Place

from chatcluster.chat import CallState, OpenCall, Status
from chatcluster.tool_results import SHOWN_BYTES_MAX

SECONDS_MAX = 120.0


@asynccontextmanager
async def working(tmp_path: Path) -> AsyncIterator[tuple[Place, Path]]:
    """A place, and its working directory."""
    async with running_agent(tmp_path / "a") as agent:
        place = Place()
        place.directory.found = agent.client
        with trio.fail_after(SECONDS_MAX):
            yield place, agent.work


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatcluster.tools.workspace_calls.WAIT_SECONDS", 0.3)


async def test_a_program_is_written_edited_run_and_read(tmp_path: Path) -> None:
    async with working(tmp_path) as (place, work), place.turn() as turn:
        assert (await turn.run("write_file", path="src/a.py", content="print('hälo')\n"))["ok"]
        edits = [{"search": "hälo", "replace": "hello"}]
        assert (await turn.run("edit_files", files=[{"path": "src/a.py", "edits": edits}]))["ok"]
        told = await turn.run("execute", command="python3 a.py; echo $EDITOR $TERM >&2; exit 3", workdir="src")
        assert (told["success"], told["exit_code"]) == (False, 3)
        assert told["output"] == "hello\ntrue dumb\n"
        assert (await turn.run("read_file", path="src/a.py"))["content"] == "print('hello')\n"
        assert (work / "src/a.py").read_text() == "print('hello')\n"


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("read_file", {"path": "gone"}, "gone"),
        ("edit_files", {"files": [{"path": "gone", "edits": [{"search": "a", "replace": "b"}]}]}, "gone"),
        ("process_output", {"process_id": "gone"}, "process"),
        ("execute", {"command": "ls", "workdir": "gone"}, "gone"),
    ],
)
async def test_what_cannot_be_done_is_an_error_result_that_says_why(
    tmp_path: Path, name: str, arguments: dict[str, object], words: str
) -> None:
    async with working(tmp_path) as (place, _), place.turn() as turn:
        told = await turn.run(name, **arguments)
    assert told.is_error
    assert words in told.text


async def test_megabytes_of_output_are_kept_and_the_model_is_shown_the_ends(tmp_path: Path) -> None:
    async with working(tmp_path) as (place, _), place.turn() as turn:
        told = await turn.run("execute", command="seq 1 300000")
    whole = b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert told.result.whole == turn.printed == whole
    assert len(told.text.encode()) <= SHOWN_BYTES_MAX
    assert told["output"].startswith("1\n2\n")
    assert told["output"].endswith("\n300000\n")


async def test_a_time_out_leaves_the_process_running_until_it_is_ended(tmp_path: Path) -> None:
    async with working(tmp_path) as (place, _), place.turn() as turn:
        told = await turn.run("execute", command="echo up; sleep 1000", timeout="3s")
        assert (told["success"], told["exit_code"], told["output"]) == (False, -1, "up\n")
        process_id = told["background_process_id"]
        (process,) = (await turn.run("process_list"))["processes"]
        assert (process["process_id"], process["running"], process["background"]) == (process_id, True, True)
        assert (await turn.run("process_output", process_id=process_id, wait="300ms"))["success"]
        assert (await turn.run("process_signal", process_id=process_id, signal="terminate"))["success"]
        ended = await turn.run("process_output", process_id=process_id, wait="60s")
        assert (ended["success"], ended["exit_code"]) == (False, 143)


async def test_the_next_owner_attaches_to_the_command_and_it_runs_once(tmp_path: Path) -> None:
    command = "echo ran >> runs; for n in 1 2 3; do echo $n; sleep 0.3; done"
    async with working(tmp_path) as (place, work):
        place.ledger.calls = (OpenCall("c1", "execute", CallState.STARTED),)
        async with place.turn() as first:
            await first.run_until_it_prints("execute", "c1", command=command)
        place.chat = msgspec.structs.replace(place.chat, epoch=place.chat.epoch + 1)
        async with place.turn() as second:
            told = await second.run("execute", "c1", command=command)
        assert told["output"].encode() == second.printed == b"1\n2\n3\n"
        assert (work / "runs").read_text() == "ran\n"
        async with place.turn() as stale:
            stale.tools._link.chat = msgspec.structs.replace(place.chat, epoch=1)  # type: ignore[attr-defined]
            assert (await stale.run("execute", command="echo late >> runs")).is_error
        assert (work / "runs").read_text() == "ran\n", "a stale owner is refused by the agent"


async def test_a_stop_ends_all_that_the_command_began(tmp_path: Path) -> None:
    async with working(tmp_path) as (place, _):
        place.ledger.chat = msgspec.structs.replace(place.chat, status=Status.INTERRUPTING)
        async with place.turn() as turn:
            await turn.run_until_it_prints("execute", "c1", command="(echo $BASHPID; sleep 1000) & wait")
            told = await turn.run("process_output", process_id="c1")
        assert (told["success"], told["error"]) == (False, "it was cancelled")
        with pytest.raises(ProcessLookupError):
            os.kill(int(turn.printed), 0)


async def test_instructions_of_home_and_directory_are_told(tmp_path: Path) -> None:
    async with working(tmp_path) as (place, work):
        (work / "AGENTS.md").write_text("Use tabs.")
        (tmp_path / "a/home/AGENTS.md").write_text("Be brief.")
        async with place.turn() as turn:
            (text,) = turn.tools.surroundings
    assert "Use tabs." in text
    assert "Be brief." in text
    assert str(work) in text


async def test_an_agent_that_is_killed_costs_an_error_result(tmp_path: Path) -> None:
    async with running_agent(tmp_path / "a") as agent:
        place = Place()
        place.directory.found = agent.client
        async with place.turn() as turn:
            agent.kill()
            with trio.fail_after(SECONDS_MAX):
                told = await turn.run("execute", command="ls")
        assert told.is_error
        assert "does not answer" in told.text
